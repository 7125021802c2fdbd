"""Passes that are recorded at load are those that the engine replays."""

import pytest

from benchmarks.gpu.without_gpu import stub
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker

pytestmark = [pytest.mark.stub_cuda, pytest.mark.usefixtures("traces")]


def test_the_first_prefix_is_computed_by_a_recording_of_the_load(ranker_on_cuda: Bundle) -> None:
    config = EngineConfig(device="cuda", max_batch_tokens=256, prefix_cache_bytes=2**22)
    stub.take_launches()
    with Ranker.load(ranker_on_cuda, config=config) as ranker:
        assert stub.take_launches()["recordings"]
        ranker.score("the chief pilot", ["nurse", "cook"])
        first = stub.take_launches()
    assert first["replays"] == 1
    assert not first["recordings"]
