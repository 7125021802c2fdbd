"""States under the events themselves, and names that begin anew while some are held."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.runtime.kinds.set_ranker.states import HistoryStates
from support.sets.reference import EVENT_BYTES, ReferenceSetBackend, States

BACKEND = ReferenceSetBackend()


def bytes_of(*events: int) -> NDArray[np.uint8]:
    return np.array([[event, 0] for event in events], np.uint8)


def states_of(*events: int) -> States:
    return States(np.array(events, np.float64)[:, None] * np.ones(EVENT_BYTES // 8))


def kept(states: HistoryStates, *events: int) -> list[float]:
    """State that is kept of the start of a history."""
    lease = states.match(states.tokens(bytes_of(*events)))
    values = [piece.values[:, 0] for piece in lease.pieces()]  # type: ignore[attr-defined]
    states.release(lease)
    return np.concatenate([np.empty(0), *values]).tolist()


def keep(states: HistoryStates, *events: int) -> None:
    tokens = states.tokens(bytes_of(*events))
    lease = states.match(tokens)
    states.insert(lease, tokens[lease.length :], states_of(*events[lease.length :]))
    states.release(lease)


def test_an_event_is_what_its_bytes_are() -> None:
    states = HistoryStates(100 * EVENT_BYTES, BACKEND.split)
    keep(states, 1, 2, 3)
    keep(states, 1, 4)
    assert kept(states, 1, 2, 3, 5) == [1, 2, 3]
    assert kept(states, 1, 4, 3) == [1, 4]
    assert kept(states, 2) == []


def test_names_begin_anew_and_what_is_held_of_before_stays_apart() -> None:
    states = HistoryStates(100 * EVENT_BYTES, BACKEND.split, most_events=4)
    early = states.tokens(bytes_of(1, 2, 3))
    lease = states.match(early)
    states.insert(lease, early[:2], states_of(1, 2))
    assert kept(states, 7, 8) == []  # of six: names begin anew
    keep(states, 7, 8)
    # The same tokens name other events by now: neither reads what is the other's.
    assert states.extend(lease, early[2:]) == 0
    states.insert(lease, early[2:], states_of(3))
    assert [piece.values[0, 0] for piece in lease.pieces()] == [1, 3]  # type: ignore[attr-defined]
    assert kept(states, 7, 8) == [7, 8]
    states.release(lease)
    assert kept(states, 1) == []
    stats = states.stats()
    assert (stats.lookups, stats.nodes, stats.bytes) == (5, 1, 2 * EVENT_BYTES)


def test_a_lease_is_released_once() -> None:
    states = HistoryStates(100 * EVENT_BYTES, BACKEND.split)
    lease = states.match(states.tokens(bytes_of(1)))
    states.release(lease)
    with pytest.raises(KeyError):
        states.release(lease)
