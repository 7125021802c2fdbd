"""The cosine: that of numbers by hand, and the same for equal items wherever they stand in a request."""

import numpy as np

from rankport.runtime.kinds.two_tower.scorers import CosineScorer


def test_cosines_are_those_of_exact_numbers_and_equal_items_have_equal_ones() -> None:
    rng = np.random.default_rng(1)
    for width in (4, 64, 384):
        query, items = rng.normal(size=width), rng.normal(size=(37, width))
        items[::3] = items[0]
        items[1] = 0
        logits = CosineScorer().logits(
            query.astype(np.float32)[None], items.astype(np.float32)[:, None], None
        )
        norms = np.maximum(np.linalg.norm(items, axis=1) * np.linalg.norm(query), 1e-12)
        np.testing.assert_allclose(logits[:, 0], items @ query / norms, atol=1e-6)
        assert len(set(logits[::3, 0].tolist())) == 1
