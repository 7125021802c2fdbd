"""Exported bundles behind `rankport serve`: over gRPC comes what the models answer in process."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound
from rankport.protos.types import Item, ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk import Client, Scorer
from support.effort import full_effort
from support.servers.serving import RANKPORT, Command, serve

TITLES = ["data engineer", "nurse", "senior machine operator", "chief cook"]
ONE_THREAD = EngineConfig(threads=1)


@pytest.fixture(scope="module")
def encoder(encoder_bundle: Bundle) -> Iterator[ItemEncoder]:
    with ItemEncoder.load(encoder_bundle, config=ONE_THREAD) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def store(encoder: ItemEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The titles' tokens, by title."""
    path = tmp_path_factory.mktemp("store") / "tokens.lmdb"
    made = encoder.describe()
    spec = TokenSpec(made.embedding_tokens, made.hidden_size, made.embedding_dtype)
    with open_store(path, create=True) as opened:
        namespace = opened.namespace(encoder.fingerprint, spec, create=True)
        rows = encoder.encode(TITLES)
        namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in zip(TITLES, rows, strict=True)])
    return path


@pytest.fixture(scope="module")
def ranker(mix_bundle: Bundle, store: Path) -> Iterator[Ranker]:
    with Ranker.load(mix_bundle, store=store, config=ONE_THREAD) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def served(mix_bundle: Bundle, encoder_bundle: Bundle, store: Path) -> Iterator[Command]:
    with serve(f"mix={mix_bundle.path}", encoder_bundle.path, "--store", store) as command:
        yield command


@pytest.fixture
def client(served: Command) -> Iterator[Client]:
    with Client(served.address, timeout_s=60) as client:
        yield client


def rankport(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*RANKPORT, *arguments], capture_output=True, text=True, input=stdin, check=False)


def test_serve_says_what_it_serves(served: Command, ranker: Ranker, encoder: ItemEncoder) -> None:
    *models, ready = served.lines
    assert {model["name"]: model["fingerprint"] for model in models} == {
        "mix": ranker.describe().fingerprint,
        encoder.describe().name: encoder.fingerprint,
    }
    assert ready["address"].startswith("127.0.0.1:")


def test_every_form_of_item_scores_as_in_process(
    client: Client, ranker: Ranker, encoder: ItemEncoder
) -> None:
    tokens = encoder.encode(TITLES)
    forms: list[list[Item]] = [
        list(TITLES),
        [Key(title) for title in TITLES],
        list(tokens),
        [[5, 6, 7], np.array([8])],
        ["nurse", Key("nurse"), tokens[1], [5], Key("nobody")],
    ]
    for items in forms:
        remote, local = client.score("head nurse", items), ranker.score("head nurse", items)
        np.testing.assert_allclose(remote.logits, local.logits, rtol=0, atol=1e-5)
        np.testing.assert_allclose(remote.scores, local.scores, rtol=0, atol=1e-5)
        assert (remote.status, remote.messages) == (local.status, local.messages)
        assert remote.fingerprint == local.fingerprint
    assert remote.status[-1] is ItemStatus.NOT_FOUND


def test_rank_is_the_same_in_process_remote_and_of_a_scorer_that_picked_the_kind(
    client: Client, ranker: Ranker, mix_bundle: Bundle, store: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(store, tmp_path / "store")  # LMDB opens a path once a process
    items: list[Item] = [*map(Key, TITLES), Key("nobody"), "nurse"]
    scores = ranker.score("head nurse", items).scores
    with Scorer.load(mix_bundle.path, copied, config=ONE_THREAD) as scorer:
        assert isinstance(scorer.model, Ranker)
        assert scorer.describe() == ranker.describe()
        rankings = [model.rank("head nurse", items, 5, True) for model in (ranker, client, scorer)]
        assert scorer.alive
    assert not scorer.alive
    for ranking in rankings:
        order = ranking.indices.tolist()
        np.testing.assert_allclose(ranking.scores, -np.sort(-scores)[:5], rtol=0, atol=1e-5)
        np.testing.assert_allclose(ranking.scores, scores[order], rtol=0, atol=1e-5)
        assert ranking.items == tuple(items[place] for place in order)


def test_a_scorer_refuses_a_bundle_that_scores_nothing_and_says_what_it_does(encoder_bundle: Bundle) -> None:
    says = r"bundle 'tiny-encoder' of kind item-encoder encodes, and scores nothing: Towers ranks"
    with pytest.raises(InvalidRequest, match=says):
        Scorer.load(encoder_bundle.path, config=ONE_THREAD)


def test_errors_are_those_in_process(client: Client, ranker: Ranker) -> None:
    calls: list[tuple[type[Exception], dict[str, Any]]] = [
        (LimitExceeded, {"prefix": "q", "items": ["fine", "too long " * 50]}),
        (NotFound, {"prefix": "q", "items": [Key("nobody")], "on_missing": "fail"}),
        (ValueError, {"prefix": {"other": "q"}, "items": ["a"]}),
        (ValueError, {"prefix": [10**9], "items": ["a"]}),
        (ValueError, {"prefix": "q", "items": [[5, -1]]}),
        (ValueError, {"prefix": "q", "items": [np.zeros((1, 3), np.float32)]}),
    ]
    for cls, arguments in calls:
        with pytest.raises(cls) as local:
            ranker.score(**arguments)
        with pytest.raises(cls) as remote:
            client.score(**arguments)
        assert type(remote.value) is type(local.value)
        assert str(remote.value) == str(local.value)


def test_encode_and_its_stream_give_the_tokens_in_process(client: Client, encoder: ItemEncoder) -> None:
    local = encoder.encode(TITLES)
    assert client.encode(TITLES).dtype == local.dtype
    np.testing.assert_allclose(client.encode(TITLES), local, rtol=0, atol=2e-3)
    pairs = [(title, title) for title in TITLES] + [("long", "word " * 100)]
    *good, bad = client.encode_stream(pairs, chunk_texts=3)
    np.testing.assert_allclose([result.embeddings for result in good], local, rtol=0, atol=2e-3)
    assert [result.id for result in good] == TITLES
    assert (bad.id, bad.status) == ("long", ItemStatus.FAILED)


def test_the_score_command_ranks_at_a_server_and_with_a_bundle(
    served: Command, ranker: Ranker, mix_bundle: Bundle, store: Path, tmp_path: Path
) -> None:
    local = ranker.score("cook", [Key(title) for title in [*TITLES, "nobody"]])
    file = tmp_path / "items.txt"
    file.write_text("\n".join([*TITLES[2:], "nobody", ""]))
    shared = ["--prefix", "cook", *TITLES[:2], "--items", str(file), "--keys", "--json"]
    expected = [int(index) for index in np.argsort(-local.scores, kind="stable")]
    for target in (["--server", served.address], ["--bundle", str(mix_bundle.path), "--store", str(store)]):
        done = rankport("score", *target, *shared)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert [item["index"] for item in report["items"]] == expected
        assert report["fingerprint"] == local.fingerprint
        *known, missing = report["items"]
        assert [item["score"] for item in known] == pytest.approx(
            [float(local.scores[item["index"]]) for item in known], abs=1e-5
        )
        assert (missing["item"], missing["status"], missing["score"]) == ("nobody", "not_found", None)


def test_the_score_command_prints_a_table_best_first(served: Command, ranker: Ranker) -> None:
    done = rankport(
        "score", "--server", served.address, "--field", "query=cook", "--items", "-", stdin="nurse\ncook\n"
    )
    assert done.returncode == 0, done.stderr
    scores = ranker.score("cook", ["nurse", "cook"]).scores
    best, worst = ("nurse", "cook") if scores[0] > scores[1] else ("cook", "nurse")
    assert done.stdout.index(f" {best} ") < done.stdout.index(f" {worst} ")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--prefix", "q", "a"], 2, "either --server or --bundle"),
        (["--server", "x:1", "--prefix", "q"], 2, "no items"),
        (["--server", "x:1", "a"], 2, "give either --prefix"),
        (["--server", "x:1", "--field", "q", "a"], 2, "has no '='"),
        (["--server", "127.0.0.1:1", "--prefix", "q", "a"], 1, "Unavailable: 127.0.0.1:1 cannot be reached"),
    ],
)
def test_the_score_command_says_what_is_wrong(arguments: list[str], status: int, says: str) -> None:
    done = rankport("score", *arguments)
    assert done.returncode == status
    assert says in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_serve_in_good_order(encoder_bundle: Bundle, number: signal.Signals) -> None:
    with serve(encoder_bundle.path) as command:
        with Client(command.address, timeout_s=60) as client:
            client.encode(["nurse"])
        for _ in range(2):  # as `timeout` does, whose first one comes from it and the second from its group
            command.process.send_signal(number)
        rest, _ = command.process.communicate(timeout=60)
        assert command.process.returncode == 0
    *_, last = [json.loads(line) for line in rest.splitlines()]
    assert last["event"] == "stopped"
    assert last["calls"]["answered"] == 1


@full_effort
@pytest.mark.parametrize("fronts", [0, 1])
def test_a_later_signal_ends_serve_at_once(encoder_bundle: Bundle, fronts: int) -> None:
    with serve(encoder_bundle.path, "--lame-duck-s", 3600, "--fronts", fronts) as command:
        command.process.send_signal(signal.SIGTERM)
        assert command.process.stdout is not None
        assert json.loads(command.process.stdout.readline())["event"] == "stopping"
        while command.process.poll() is None:
            command.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert command.process.returncode == 128 + signal.SIGTERM


def test_two_bundles_of_one_name_are_refused(encoder_bundle: Bundle) -> None:
    done = rankport("serve", str(encoder_bundle.path), str(encoder_bundle.path), "--port", "0")
    assert done.returncode == 2
    assert "are both named" in done.stderr
    assert "NAME=" in done.stderr


def test_a_server_warms_both_up(ranker: Ranker, encoder: ItemEncoder) -> None:
    warm(ranker, 20.0)
    warm(encoder, 20.0)
