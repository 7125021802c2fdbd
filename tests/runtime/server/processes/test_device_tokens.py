"""Tokens that stay on a device: scores, statuses and errors are the same from one process and from fronts."""

import os
import signal
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound, RankportError
from rankport.protos.types import Item, ItemStatus, Key, ScoreResult
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.processes.supervisor import Supervisor, Work
from rankport.sdk import Client
from support.bundle_samples import RANKER_FILES, write_directory
from support.hash_encoder import ServedHashEncoder
from support.reference_backend import HIDDEN
from support.resident_backend import use_in_all_processes
from support.servers.resident_sides import CUDA, ROOM, TITLES, Side, make_store, put, sides, with_room
from support.servers.supervised import eventually
from support.small_rankers import ENCODER, mix_draft

TOO_LONG = "red green blue shoes " * 3


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has all processes load a backend with a table."""
    use_in_all_processes(monkeypatch, tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_directory(tmp_path / "ranker", mix_draft(), RANKER_FILES))


@pytest.fixture
def encoder() -> ServedHashEncoder:
    return ServedHashEncoder(ENCODER, 2, HIDDEN)


def outcome(side: Side, items: Sequence[Item], on_missing: Any) -> ScoreResult | RankportError:
    try:
        return side.client.score("red shoes", items, on_missing=on_missing)
    except RankportError as error:
        return error


def agreed(
    served: list[Side], items: Sequence[Item], on_missing: Any = "skip"
) -> ScoreResult | RankportError:
    """The outcome on all sides, which must be one."""
    first, *others = (outcome(side, items, on_missing) for side in served)
    for other in others:
        assert type(other) is type(first), (first, other)
        if isinstance(first, ScoreResult):
            assert isinstance(other, ScoreResult)
            np.testing.assert_allclose(other.logits, first.logits, rtol=0, atol=1e-5)
            np.testing.assert_allclose(other.scores, first.scores, rtol=0, atol=1e-5)
            assert (other.status, other.messages) == (first.status, first.messages)
            assert other.usage.item_tokens == first.usage.item_tokens
            assert other.usage.items_cached == first.usage.items_cached
        else:
            assert str(other) == str(first)
    return first


def scored(served: list[Side], items: Sequence[Item], on_missing: Any = "skip") -> ScoreResult:
    result = agreed(served, items, on_missing)
    assert isinstance(result, ScoreResult), result
    return result


def refused(served: list[Side], items: Sequence[Item], on_missing: Any = "skip") -> RankportError:
    error = agreed(served, items, on_missing)
    assert isinstance(error, RankportError), error
    return error


KEYS = [Key(title) for title in TITLES]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_every_form_of_item_and_every_missing_key_come_to_the_same(
    tmp_path: Path, bundle: Bundle, encoder: ServedHashEncoder, dtype: str
) -> None:
    with sides(tmp_path, bundle, encoder, dtype=dtype) as served:
        rows = encoder.encode(["nurse"])
        stored = [
            KEYS[:ROOM],
            KEYS[ROOM:],
            KEYS,
            ["red", Key("nurse"), rows[0], [5, 6], "", *KEYS, KEYS[0]],
            [],
        ]
        for items in stored:
            scored(served, items)
            scored(served, items, "fail")
        for items in (
            [*stored[3], Key("nobody")],
            [Key("ÿé\N{GRINNING FACE}")],
            [Key("none"), *KEYS, Key("nobody")],
        ):
            for _ in range(2):
                assert ItemStatus.NOT_FOUND in scored(served, items).status
        assert isinstance(refused(served, [*KEYS, Key("nobody"), Key("none")], "fail"), NotFound)
        assert isinstance(refused(served, [Key("unheard of"), Key("nobody"), *KEYS], "fail"), NotFound)
        assert isinstance(refused(served, [TOO_LONG, Key("nobody")], "fail"), NotFound)
        assert isinstance(refused(served, [TOO_LONG, Key("nobody")]), LimitExceeded)
        assert isinstance(refused(served, [Key("nurse"), Key("")]), InvalidRequest)
        one, fronts, without = (side.ranker.counts().store for side in served)
        assert one is not None
        assert fronts is not None
        assert without is not None
        assert (without.device_keys, without.device_kept) == (0, 0)
        assert fronts.device_keys == one.device_keys > 0
        eventually(lambda: served[1].ranker.counts().store.device_kept == ROOM)  # type: ignore[union-attr]


def test_what_is_written_replaced_and_deleted_is_seen(
    tmp_path: Path, bundle: Bundle, encoder: ServedHashEncoder
) -> None:
    with sides(tmp_path, bundle, encoder) as served:
        asked = [Key("chief cook"), Key("welder"), Key("new")]
        before = scored(served, asked)
        assert before.status[-1] is ItemStatus.NOT_FOUND
        for side in served:
            put(side.store, encoder, {"chief cook": "data engineer", "new": "nurse"})
            side.store.namespace(encoder.fingerprint).delete_many(["data engineer", "welder"])
        told = (ItemStatus.OK, ItemStatus.NOT_FOUND, ItemStatus.OK)

        def caught_up(side: Side) -> bool:
            result = side.client.score("red shoes", [*asked, Key("data engineer")])
            moved = abs(result.logits[0] - before.logits[0]).max() > 1e-4
            return bool(moved) and result.status == (*told, ItemStatus.NOT_FOUND)

        for side in served:
            eventually(partial(caught_up, side))
        rows = encoder.encode(["data engineer", "nurse"])
        expected = served[0].client.score("red shoes", list(rows)).logits
        found = scored(served, asked).logits[[0, 2]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_encoded_on_the_way_is_there_for_who_comes_next(
    tmp_path: Path, bundle: Bundle, encoder: ServedHashEncoder, read_only: bool
) -> None:
    with sides(tmp_path, bundle, encoder, read_only=read_only) as served:
        asked = [Key("nurse", "nurse"), Key("baker", "baker of bread"), Key("none"), Key("long", TOO_LONG)]
        first, again = (scored(served, asked, "encode").status for _ in range(2))
        assert first == (ItemStatus.OK, ItemStatus.ENCODED, ItemStatus.NOT_FOUND, ItemStatus.FAILED)
        assert again == (ItemStatus.OK, ItemStatus.OK, ItemStatus.NOT_FOUND, ItemStatus.FAILED)
        assert scored(served, [Key("baker"), *KEYS], "fail").status == (ItemStatus.OK,) * 6


def test_scores_in_the_cache_are_those_of_the_tokens_that_the_store_has_now(
    tmp_path: Path, bundle: Bundle, encoder: ServedHashEncoder
) -> None:
    with sides(tmp_path, bundle, encoder, score_cache_bytes=2**20) as served:
        assert scored(served, KEYS[:2]).usage.items_cached == 0
        assert scored(served, KEYS).usage.items_cached == 2
        missing = [*KEYS, Key("nobody"), "green boots"]
        assert str(refused(served, missing, "fail")).startswith("item 5: ")
        assert scored(served, missing).usage.items_cached == len(KEYS)
        for side in served:
            put(side.store, encoder, {"chief cook": "data engineer"})
        assert (
            scored(served, [*KEYS, "green boots"]).usage.items_cached == len(KEYS) + 1
        )  # its tokens are another's
        assert scored(served, [Key("chief cook")]).usage.items_cached == 1


def test_a_killed_engine_comes_back_with_the_tokens_on_its_device(
    tmp_path: Path, bundle: Bundle, encoder: ServedHashEncoder
) -> None:
    store = make_store(tmp_path / "tokens", encoder)
    with Ranker.load(bundle, store=store, config=CUDA) as ranker:
        expected = ranker.score("red shoes", KEYS)
    config = with_room(len(KEYS))
    observing = ObservingConfig(metrics_port=0)
    server_config = ServerConfig(port=0, fronts=2, grace_s=5.0, observing=observing)
    work = Work([f"mix={bundle.path}"], server_config, config, str(store))
    with Supervisor(work) as server, Client(server.address, "mix", timeout_s=60) as client:

        def answers() -> bool:
            try:
                result = client.score("red shoes", KEYS, on_missing="fail")
            except RankportError:
                return False
            np.testing.assert_allclose(result.logits, expected.logits, rtol=0, atol=1e-5)
            return True

        assert answers()
        eventually(lambda: found_on_device(server) >= len(KEYS))
        for kill in (2, 3):
            pids = server.engine_pids
            os.kill(pids[0], signal.SIGKILL)
            eventually(lambda pids=pids: server.engine_pids != pids)  # type: ignore[misc]
            eventually(answers)
            eventually(lambda kill=kill: found_on_device(server) >= kill * len(KEYS))  # type: ignore[misc]


def found_on_device(server: Supervisor) -> float:
    """Keys that all fronts were asked for whose tokens were on the device."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "rankport_store_keys_total" and sample.labels["found"] == "device"
        )
