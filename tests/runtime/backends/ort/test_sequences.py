"""Rows of the pool of sequences: keys, values and states come and go together."""

from collections.abc import Sequence

import numpy as np
import pytest

from rankport.runtime.backends.layouts.kept import KeptState
from rankport.runtime.backends.ort.host_kv import HostKV
from rankport.runtime.backends.ort.sequences import HostSequence, SequencePool
from rankport.runtime.bundle.manifest import LayerKV

STATE = KeptState("new_conv_state.0", "past_conv_state.0", (2,), "float32")
TOKENS = 3


def pool() -> SequencePool:
    return SequencePool([LayerKV(kv_heads=1, head_dim=1)], states=[STATE])


def prefix(number: float) -> tuple[HostKV, ...]:
    """A prefix whose every number is that one; of two pieces, of which the last has the state."""
    tokens = tuple(np.full((1, 1, TOKENS, 1), number, np.float32) for _ in range(2))
    cut = tuple(array[:, :, :1] for array in tokens), tuple(array[:, :, 1:] for array in tokens)
    return HostKV(cut[0], (np.full((1, 2), 99.0, np.float32),)), HostKV(
        cut[1], (np.full((1, 2), number, np.float32),)
    )


def held(rows: SequencePool, sequences: Sequence[HostSequence]) -> list[tuple[float, ...]]:
    """Numbers of each sequence's key, value and state, each of which is one number."""
    past = rows.past(sequences)
    found = []
    for place, sequence in enumerate(sequences):
        parts = [past[f"past_{part}.0"][place, :, : sequence.length] for part in ("key", "value")]
        parts.append(past[STATE.past][place])
        assert all((part == part.flat[0]).all() for part in parts)
        found.append(tuple(float(part.flat[0]) for part in parts))
    return found


def test_a_row_that_is_given_back_is_filled_by_the_last() -> None:
    rows = pool()
    first, second, third = (rows.begin(prefix(number)) for number in (1.0, 2.0, 3.0))
    rows.end(first)
    assert third.row == 0
    assert held(rows, [third, second]) == [(3.0, 3.0, 3.0), (2.0, 2.0, 2.0)]
    assert held(rows, [second]) == [(2.0, 2.0, 2.0)]


def test_beams_take_the_keys_values_and_states_of_their_parents() -> None:
    rows = pool()
    beams = [rows.begin(prefix(number)) for number in (1.0, 2.0, 3.0)]
    rows.reorder(beams, np.array([2, 1, 0]))
    assert held(rows, beams) == [(3.0,) * 3, (2.0,) * 3, (1.0,) * 3]
    rows.reorder(beams, np.array([1, 1, 1]))
    assert held(rows, beams) == [(2.0,) * 3] * 3


def test_a_sequence_behind_nothing_begins_with_zeros_whatever_its_row_held() -> None:
    rows = pool()
    rows.end(rows.begin(prefix(5.0)))
    (state,) = (rows.past([rows.begin(())])[STATE.past],)
    assert not state.any()


@pytest.mark.parametrize("part", [[0, 1], [1], [0]])
def test_a_step_is_taken_by_those_that_took_part_alone(part: list[int]) -> None:
    rows = pool()
    sequences = [rows.begin(prefix(number)) for number in (1.0, 2.0)]
    given = [sequences[place] for place in part]
    for step in range(1, 4):
        own = rows.place(given) is not None
        assert own == (part == [0, 1])
        past = rows.past(given)
        new = rows.new(given, past)
        assert new["new_key.0"] is past["past_key.0"]
        assert not np.shares_memory(new[STATE.new], past[STATE.past])
        new[STATE.new][:] = past[STATE.past] + 10.0
        rows.take(given, None if own else new)
        expected = [number + 10.0 * step * (place in part) for place, number in enumerate((1.0, 2.0))]
        assert rows.past(sequences)[STATE.past][:, 0].tolist() == expected
        assert [one.length for one in sequences] == [TOKENS + step * (place in part) for place in (0, 1)]


@pytest.mark.parametrize("part", [[0, 1], [1]])
def test_what_a_pass_gives_is_put_behind_those_that_took_part(part: list[int]) -> None:
    rows = pool()
    sequences = [rows.begin(prefix(number)) for number in (1.0, 2.0)]
    numbers = np.array(part, np.float32) + 5.0
    token = numbers[:, None, None, None]
    rows.append([sequences[place] for place in part], [token, token, np.repeat(numbers[:, None], 2, 1)])
    past = rows.past(sequences)
    for place, sequence in enumerate(sequences):
        begun, taken = place + 1.0, place in part
        assert sequence.length == TOKENS + taken
        expected = [begun] * TOKENS + [place + 5.0] * taken
        assert past["past_key.0"][place, 0, : sequence.length, 0].tolist() == expected
        assert past[STATE.past][place].tolist() == [place + 5.0 if taken else begun] * 2


def test_all_bytes_are_counted_and_more_rows_keep_what_they_held() -> None:
    rows = pool()
    sequences = [rows.begin(prefix(float(number))) for number in range(1, 6)]
    assert held(rows, sequences) == [(float(number),) * 3 for number in range(1, 6)]
    past = rows.past(sequences)
    room = past["past_key.0"].shape[2]
    count = rows.nbytes // (4 * (2 * room + 2 * 2))  # of states two, read and written by turns
    assert count >= len(sequences)
    assert rows.nbytes == count * 4 * (2 * room + 2 * 2)


@pytest.mark.parametrize("moved", [False, True])
def test_behind_a_sequence_nothing_is_left_of_one_whose_numbers_were_none(moved: bool) -> None:
    """A graph gives what is behind a sequence no weight, and what is no number stays none at any weight."""
    rows = pool()
    broken = rows.begin(prefix(np.nan) * 3)
    others = [rows.begin(prefix(1.0)[:1])] if moved else []
    rows.end(broken)
    sequences = [*others, rows.begin(prefix(2.0)[:1])]
    assert [sequence.row for sequence in sequences] == list(range(len(sequences)))
    past = rows.past(sequences)
    assert all(np.isfinite(past[f"past_{part}.0"]).all() for part in ("key", "value"))


def test_behind_a_sequence_nothing_is_left_of_a_step_that_failed() -> None:
    rows = pool()
    broken = rows.begin(prefix(1.0))
    rows.past([broken])["past_key.0"][0, :, broken.length] = np.nan
    rows.end(broken)
    assert np.isfinite(rows.past([rows.begin(())])["past_key.0"]).all()


def test_a_past_that_is_cut_is_as_long_as_its_sequences_need() -> None:
    rows = pool()
    short, long = rows.begin(prefix(1.0)), rows.begin(prefix(2.0) * 200)
    for sequences in ([short], [short, long], [long]):
        past, whole = rows.past(sequences, cut=True), rows.past(sequences)
        for name in ("past_key.0", "past_value.0"):
            room = past[name].shape[2]
            assert past[name].flags.c_contiguous
            assert (room == whole[name].shape[2]) == (long in sequences)
            assert max(sequence.length for sequence in sequences) < room
            assert np.array_equal(past[name], whole[name][:, :, :room])


def test_memory_that_none_needed_since_the_pool_was_empty_is_given_back() -> None:
    rows = pool()
    many = [rows.begin(prefix(1.0) * 200) for _ in range(5)]
    for sequence in many:
        rows.end(sequence)
    large = rows.nbytes
    few = rows.begin(prefix(2.0))
    place = rows.place([few])
    assert rows.nbytes == large  # which the last ones needed
    rows.end(few)
    assert rows.nbytes < large / 20
    again = rows.begin(prefix(3.0))
    assert held(rows, [again]) == [(3.0,) * 3]
    assert rows.place([again]) != place  # other memory
