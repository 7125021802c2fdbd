"""Through a front process comes what the models answer in process, in every form."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound
from rankport.protos.types import Item, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.runtime.store.store import TokenEntry, TokenSpec, TokenStore
from rankport.sdk import Client
from support.servers.supervised import ONE_THREAD, mapped_files, supervised

TITLES = ["data engineer", "nurse", "senior machine operator", "chief cook"]


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
    with TokenStore.open(path, create=True) as opened:
        namespace = opened.namespace(encoder.fingerprint, spec, create=True)
        rows = encoder.encode(TITLES)
        namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in zip(TITLES, rows, strict=True)])
    return path


@pytest.fixture(scope="module")
def ranker(mix_bundle: Bundle, store: Path) -> Iterator[Ranker]:
    with Ranker.load(mix_bundle, store=store, config=ONE_THREAD) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(mix_bundle: Bundle, encoder_bundle: Bundle, store: Path) -> Iterator[Supervisor]:
    with supervised(f"mix={mix_bundle.path}", encoder_bundle.path, store=store) as running:
        yield running


@pytest.fixture
def client(server: Supervisor) -> Iterator[Client]:
    with Client(server.address, timeout_s=60) as client:
        yield client


def test_every_form_of_item_scores_as_in_process(
    client: Client, ranker: Ranker, encoder: ItemEncoder
) -> None:
    tokens = encoder.encode(TITLES)
    forms: list[list[Item]] = [
        list(TITLES),
        [Key(title) for title in TITLES],
        list(tokens),
        [[5, 6, 7], np.array([8])],
        ["nurse", Key("nurse"), tokens[1], [5], Key("nobody"), ""],
        ["nurse"] * 3000,  # larger than what travels beside the shared memory
        [],
    ]
    for items in forms:
        remote, local = client.score("head nurse", items), ranker.score("head nurse", items)
        np.testing.assert_allclose(remote.logits, local.logits, rtol=0, atol=1e-5)
        np.testing.assert_allclose(remote.scores, local.scores, rtol=0, atol=1e-5)
        assert (remote.status, remote.messages) == (local.status, local.messages)
        assert remote.usage.item_tokens == local.usage.item_tokens


def test_texts_are_encoded_as_in_process(client: Client, encoder: ItemEncoder) -> None:
    texts = [f"{title} {number}" for number in range(60) for title in TITLES]
    np.testing.assert_allclose(client.encode(texts), encoder.encode(texts), rtol=0, atol=1e-5)


def test_errors_are_those_in_process(client: Client, ranker: Ranker) -> None:
    calls: list[tuple[type[Exception], str | list[int], list[Item], bool]] = [
        (LimitExceeded, "q", ["fine", "too long " * 50], False),
        (NotFound, "q", [Key("nobody")], True),
        (InvalidRequest, [10**9], ["a"], False),
        (InvalidRequest, "q", [np.zeros((1, 3), np.float32)], False),
    ]
    for cls, prefix, items, fail in calls:
        with pytest.raises(cls) as local:
            ranker.score(prefix, items, on_missing="fail" if fail else "skip")
        with pytest.raises(cls) as remote:
            client.score(prefix, items, on_missing="fail" if fail else "skip")
        assert (type(remote.value), str(remote.value)) == (type(local.value), str(local.value))


def test_fronts_hold_no_engine(server: Supervisor) -> None:
    for pid in server.front_pids:
        assert not [file for file in mapped_files(pid) if "onnxruntime" in file or "torch" in file]
    assert [file for file in mapped_files(server.engine_pids[0]) if "onnxruntime" in file]
