"""Masks while a model is traced."""

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from rankport.exporters.graphs.masks import masks_by_index, sizes_of_masks


def test_masks_are_transformers_own_again_behind_a_trace_that_failed() -> None:
    before = dict(ALL_MASK_ATTENTION_FUNCTIONS)
    try:
        with masks_by_index():
            assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is not before["sdpa"]
            raise KeyError
    except KeyError:
        assert dict(ALL_MASK_ATTENTION_FUNCTIONS) == before


def test_sizes_of_masks_are_noted_and_the_masks_are_as_without() -> None:
    make = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    options = {"q_length": 3, "kv_length": 3, "allow_is_causal_skip": False}
    with sizes_of_masks() as sizes:
        made = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](1, local_size=2, **options)
        ALL_MASK_ATTENTION_FUNCTIONS["eager"](1, q_length=3, kv_length=3)
    assert sizes == {2}
    assert torch.equal(made, make(1, local_size=2, **options))
