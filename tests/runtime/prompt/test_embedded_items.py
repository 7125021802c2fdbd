"""Items of embedding tokens: requests of any sizes have the ids that each item would have alone."""

import numpy as np
import pytest

from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.tokens import EMBEDDED
from support.prompt_encoders import SEP

SIZES = (3, 1, 700, 256, 257, 2_000, 3)


def test_requests_of_any_sizes_after_each_other_have_the_ids_of_their_items(encoder: PromptEncoder) -> None:
    kept = []
    for size in SIZES:
        rows = np.full((size, 2, 4), size, np.float16)
        kept.append((rows, encoder.encode_items(rows)))
    for rows, items in kept:  # the later ones took nothing from the earlier ones
        size, runs = len(rows), items.runs
        assert runs.ids.tolist() == [EMBEDDED, EMBEDDED, SEP] * size
        assert runs.offsets.tolist() == list(range(0, 3 * size + 1, 3))
        assert runs.embedded is not None
        assert runs.embedded.tolist() == list(range(0, 2 * size + 1, 2))
        np.testing.assert_array_equal(np.concatenate(runs.blocks), rows.reshape(-1, 4))
        assert items.places.tolist() == list(range(size))


def test_what_requests_share_is_nobodys_to_write_to(encoder: PromptEncoder) -> None:
    runs = encoder.encode_items(np.zeros((2, 2, 4), np.float16)).runs
    for shared in (runs.ids, runs.offsets, runs.embedded):
        assert shared is not None
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 7
