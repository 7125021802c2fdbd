"""Through a front process comes what the models answer in process, in every form."""

from collections.abc import Iterator

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound
from rankport.protos.types import Item, Key
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.sdk import Client
from support.servers.supervised import mapped_files

TITLES = ["data engineer", "nurse", "senior machine operator", "chief cook"]  # those of the store


@pytest.fixture
def client(server: Supervisor) -> Iterator[Client]:
    with Client(server.address, "mix", timeout_s=60) as client:
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


def test_texts_are_encoded_as_in_process(server: Supervisor, encoder: ItemEncoder) -> None:
    texts = [f"{title} {number}" for number in range(60) for title in TITLES]
    with Client(server.address, timeout_s=60) as client:
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
