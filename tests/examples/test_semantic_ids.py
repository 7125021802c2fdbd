"""Semantic ids: codes that rebuild their vectors better with every level, and tokens in id order."""

import numpy as np

from examples.gti.semantic_ids import quantize


def test_every_level_takes_from_what_the_levels_before_left() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    ids = quantize(vectors, levels=3, codes=8, seed=0)
    assert ids.codes.shape == (300, 3)
    assert ids.codebook.shape == (3, 8, 12)
    errors = []
    rebuilt = np.repeat(vectors.mean(0)[None], 300, 0)
    for level in range(3):
        rebuilt = rebuilt + ids.codebook[level][ids.codes[:, level]]
        errors.append(float(((vectors - rebuilt) ** 2).sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * float(((vectors - vectors.mean(0)) ** 2).sum())


def test_tokens_are_named_in_id_order_and_each_item_has_one_a_level() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    ids = quantize(vectors, levels=2, codes=3, seed=1)
    assert ids.tokens == ("<a_0>", "<a_1>", "<a_2>", "<b_0>", "<b_1>", "<b_2>")
    assert ids.of(7) == [f"<a_{ids.codes[7, 0]}>", f"<b_{ids.codes[7, 1]}>"]
    np.testing.assert_array_equal(quantize(vectors, 2, 3, seed=1).codes, ids.codes)
