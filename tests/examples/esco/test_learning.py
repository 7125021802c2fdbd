"""Targets, losses and augmentation of the training."""

import numpy as np

from examples.esco.dataset import Dataset, Item, Phrase
from examples.esco.learning import ItemTargets, drop_pieces, random_batches, respell


def test_an_items_target_is_its_own_and_a_share_for_its_unit_group_without_held_out_items():
    codes = ("1111", "1111", "1111", "2222", "3333")
    items = tuple(Item(str(row), "", "", isco) for row, isco in enumerate(codes))
    phrases = (Phrase("a", frozenset(["1"])), Phrase("b", frozenset(["3"])))
    targets = ItemTargets(Dataset(items, (), phrases, frozenset(["4"])), group_share=0.4)
    drawn = targets.draw(np.array([0, 1]), np.random.default_rng(0))
    np.testing.assert_allclose(drawn, [[0.2, 0.6, 0.2, 0], [0, 0, 0, 1]], atol=1e-6)


def test_a_phrase_of_several_items_means_each_in_turn():
    items = tuple(Item(str(row), "", "", str(row)) for row in range(3))
    targets = ItemTargets(
        Dataset(items, (), (Phrase("a", frozenset(["0", "2"])),), frozenset()), group_share=0.4
    )
    drawn = targets.draw(np.zeros(100, np.int64), np.random.default_rng(0)).sum(0)
    assert drawn.sum() == 100
    assert drawn[1] == 0
    assert 30 < drawn[0] < 70


def test_dropping_pieces_keeps_the_first_token_and_never_all_others():
    rng = np.random.default_rng(0)
    assert drop_pieces([2, 7, 8], 0.0, rng) == [2, 7, 8]
    assert drop_pieces([2, 7, 8], 1.0, rng) == [2, 7, 8]
    kept = drop_pieces([2, *range(10, 1010)], 0.25, rng)
    assert kept[0] == 2
    assert 700 < len(kept) < 800


def test_words_are_respelt_in_their_places_where_they_have_a_spelling():
    rng = np.random.default_rng(0)
    assert respell([2, 7, 8, 7], {7: (5, 6)}, 1.0, rng) == [2, 5, 6, 8, 5, 6]
    assert respell([2, 7, 8, 7], {7: (5, 6)}, 0.0, rng) == [2, 7, 8, 7]
    assert 200 < respell([7] * 1000, {7: (5,)}, 0.25, rng).count(5) < 300


def test_batches_go_through_all_rows_before_any_comes_again():
    batches = random_batches(10, 5, 3, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [5, 5, 5]
    assert sorted(np.concatenate(batches[:2]).tolist()) == list(range(10))
