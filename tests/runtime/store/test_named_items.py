"""Keys that are named to another process: all of them, but for those that it said it has not, until it looks again."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from rankport.runtime.store.named_items import NamedItems

KEYS = ["a", "b", "c"]
PLACES = np.array([2, 5, 7])


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def items(clock: Clock) -> Iterator[NamedItems]:
    made = NamedItems(2, lambda: 40, 5.0, clock=clock)
    yield made
    made.close()


def named(items: NamedItems, absent: frozenset[str] = frozenset()) -> list[str]:
    found = items.find(KEYS, PLACES, absent)
    return [] if found is None else list(found.keys or ())


def test_keys_are_named_with_rows_counted_by_them(items: NamedItems) -> None:
    found = items.find(KEYS, PLACES)
    assert found is not None
    assert list(found.keys or ()) == KEYS
    np.testing.assert_array_equal(found.places, PLACES)
    np.testing.assert_array_equal(found.rows, [[0, 1], [2, 3], [4, 5]])
    assert len(items) == 40


def test_what_is_absent_is_not_named_again_until_the_device_has_looked_for_more(
    items: NamedItems, clock: Clock
) -> None:
    assert named(items, frozenset("ac")) == ["b"]
    assert named(items) == KEYS  # of another request
    items.learn_absent(["b", "d"])
    found = items.find(KEYS, PLACES)
    assert found is not None
    assert list(found.keys or ()) == ["a", "c"]
    np.testing.assert_array_equal(found.places, [2, 7])
    np.testing.assert_array_equal(found.rows, [[0, 1], [2, 3]])
    assert named(items, frozenset("a")) == ["c"]
    assert named(items, frozenset("ac")) == []
    assert items.find([], np.array([], np.int64)) is None
    clock.now_s += 5.1
    assert named(items) == KEYS
