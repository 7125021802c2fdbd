"""Masks while a model is traced."""

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from rankport.exporters.graphs.masks import masks_by_index


def test_masks_are_transformers_own_again_behind_a_trace_that_failed() -> None:
    before = dict(ALL_MASK_ATTENTION_FUNCTIONS)
    try:
        with masks_by_index():
            assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is not before["sdpa"]
            raise KeyError
    except KeyError:
        assert dict(ALL_MASK_ATTENTION_FUNCTIONS) == before
