"""Tokens without padding, and the short way to lay out a token of each prefix."""

import numpy as np

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import pack, step_inputs
from rankport.runtime.tokens import TokenRun


class Past:
    """Stands for KV: a layout asks for its length alone."""

    def __init__(self, length: int) -> None:
        self.length, self.nbytes = length, 0


def test_a_token_of_each_prefix_is_laid_out_as_any_run() -> None:
    lengths, tokens = np.array([4, 0, 9]), np.array([7, 5, 6])
    prefixes = tuple((Past(length),) if length else () for length in lengths.tolist())
    batch = PrefixBatch.of(
        prefixes, tuple(TokenRun(tokens[place : place + 1]) for place in range(3)), np.arange(3)
    )
    packed = pack(batch, EmbeddingsForm(8))
    expected = {name: value.array() for name, value in packed.inputs(packed.sizes).items()}
    inputs = step_inputs(tokens, lengths)
    assert expected.keys() - inputs.keys() == {"embeddings", "embedding_rows"}
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.shape == expected[name].shape
