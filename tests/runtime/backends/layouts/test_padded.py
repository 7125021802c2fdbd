"""Texts beside each other, padded at the end, and the rows of their tokens taken out of a pass again."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.backends.layouts.padded import IDS, MASK, TYPES, pad
from rankport.runtime.tokens import TokenRuns
from support.effort import scale


@settings(max_examples=scale(60), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 7), st.integers(0, 7)), min_size=1, max_size=6
    ),  # tokens of a text, of them before the second one
    st.booleans(),
    st.integers(0, 2),
    st.integers(0, 3),
)
def test_every_token_is_where_its_text_is_and_padding_is_masked(
    texts: list[tuple[int, int]], paired: bool, more_items: int, more_tokens: int
) -> None:
    lengths = [length for length, _ in texts]
    seconds = [min(length, second) for length, second in texts]
    ids = np.arange(1, sum(lengths) + 1)
    plain = TokenRuns.of_lengths(ids, lengths)
    runs = TokenRuns(plain.ids, plain.offsets, seconds=np.array(seconds)) if paired else plain
    padded = pad(runs)
    items, longest = len(lengths) + more_items, max(lengths) + more_tokens
    given = padded.inputs(items, longest, {IDS, MASK, TYPES})
    inputs = {name: value.array() for name, value in given.items()}
    token = iter(ids.tolist())
    for place, length in enumerate(lengths):
        behind = longest - length
        assert inputs[IDS][place].tolist() == [*(next(token) for _ in range(length)), *[0] * behind]
        assert inputs[MASK][place].tolist() == [1] * length + [0] * behind
        second = seconds[place] if paired else length
        assert inputs[TYPES][place].tolist() == [0] * second + [1] * (length - second) + [0] * behind
    for place in range(len(lengths), items):
        assert inputs[IDS][place].tolist() == [0] * longest
        assert inputs[MASK][place].tolist() == [1] + [0] * (longest - 1)
        assert inputs[TYPES][place].tolist() == [0] * longest
    rows = inputs[IDS][: len(lengths), :, None].astype(np.float32)
    assert padded.cut(rows)[:, 0].tolist() == ids.tolist()
