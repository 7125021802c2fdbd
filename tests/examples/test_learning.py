"""Targets, losses and augmentation of the training."""

import numpy as np
import pytest
import torch

from examples.esco.dataset import Dataset, Item
from examples.esco.learning import (
    ItemTargets,
    add_noise,
    distillation_loss,
    drop_words,
    listwise_loss,
    random_batches,
)


def test_an_items_target_is_its_own_and_a_share_for_its_unit_group_without_held_out_items():
    codes = ("1111", "1111", "1111", "2222", "3333")
    items = tuple(Item(str(row), "", "", isco) for row, isco in enumerate(codes))
    targets = ItemTargets(Dataset(items, (), (), frozenset(["4"])), group_share=0.4)
    np.testing.assert_allclose(targets.of(np.array([1, 3])), [[0.2, 0.6, 0.2, 0], [0, 0, 0, 1]], atol=1e-6)


def test_the_listwise_loss_is_least_where_the_softmax_equals_the_gains():
    gains = torch.tensor([[2, 1, 0]])
    best = listwise_loss(torch.tensor([[0.8, 0.2, 1e-9]]).log(), gains, partial_weight=0.25)
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert best.item() == pytest.approx(entropy, abs=1e-6)
    assert listwise_loss(torch.zeros(1, 3), gains, partial_weight=0.25) > best


def test_the_distillation_loss_is_least_at_the_teachers_cosines():
    cosines = torch.tensor([[0.9, 0.1, 0.4]])
    best = distillation_loss(10 * cosines, cosines, 10)
    assert distillation_loss(9 * cosines, cosines, 10) > best
    assert distillation_loss(11 * cosines, cosines, 10) > best


def test_dropping_words_keeps_the_first_token_and_never_all_others():
    rng = np.random.default_rng(0)
    assert drop_words([2, 7, 8], 0.0, rng) == [2, 7, 8]
    assert drop_words([2, 7, 8], 1.0, rng) == [2, 7, 8]
    kept = drop_words([2, *range(10, 1010)], 0.25, rng)
    assert kept[0] == 2
    assert 700 < len(kept) < 800


def test_noise_turns_an_item_but_not_along_the_constant():
    constant = torch.eye(64)[0]
    tokens = torch.nn.functional.normalize(torch.randn(20, 64).index_fill(1, torch.tensor([0]), 0), dim=-1)
    turned = add_noise(tokens, 0.3, constant)
    assert turned[:, 0].abs().max() < 1e-6
    torch.testing.assert_close(turned.norm(dim=-1), torch.ones(20))
    assert (tokens * turned).sum(-1).mean().item() == pytest.approx(1 / 1.09**0.5, abs=0.02)


def test_batches_go_through_all_rows_before_any_comes_again():
    batches = random_batches(10, 5, 3, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [5, 5, 5]
    assert sorted(np.concatenate(batches[:2]).tolist()) == list(range(10))
