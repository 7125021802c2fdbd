"""Loaded rankers of sets, one a mask."""

from collections.abc import Callable, Iterator

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker


@pytest.fixture
def set_wise(set_bundle: Callable[[str, str], Bundle]) -> Iterator[SetRanker]:
    with SetRanker.load(set_bundle("hstu", "set-wise"), config=EngineConfig(threads=1)) as ranker:
        yield ranker


@pytest.fixture
def top(set_bundle: Callable[[str, str], Bundle]) -> Iterator[SetRanker]:
    with SetRanker.load(set_bundle("ligr", "top"), config=EngineConfig(threads=1)) as ranker:
        yield ranker
