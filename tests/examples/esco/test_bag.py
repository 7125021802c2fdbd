"""The best bag of words is a least squares fit that keeps to its start where no text says otherwise."""

import torch

from examples.esco.bag import Bag

PIECES, HIDDEN = 30, 8


def test_rows_that_made_the_vectors_are_found_again_and_unread_ones_stay():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(PIECES, HIDDEN, generator=generator)
    ids = [torch.randint(1, PIECES, (1 + text % 5,), generator=generator).tolist() for text in range(3000)]
    vectors = torch.stack([rows[run].mean(0) for run in ids])
    start = rows + 0.5 * torch.randn(PIECES, HIDDEN, generator=generator)
    bag = Bag.fit(ids, vectors, start)
    made = torch.stack([bag.rows[run].mean(0) for run in ids]) + bag.mean
    torch.testing.assert_close(made, vectors, atol=0.02, rtol=0)
    torch.testing.assert_close(bag.rows[1:] + bag.mean, rows[1:], atol=0.02, rtol=0)
    kept = torch.nn.functional.cosine_similarity(bag.rows[0], start[0] - bag.mean, dim=0)
    assert kept > 0.999


def test_the_fit_is_nearer_than_its_start():
    generator = torch.Generator().manual_seed(1)
    ids = [[text % PIECES, (7 * text + 1) % PIECES] for text in range(200)]
    vectors, start = torch.randn(200, HIDDEN, generator=generator), torch.zeros(PIECES, HIDDEN)
    bag = Bag.fit(ids, vectors, start + torch.randn(PIECES, HIDDEN, generator=generator))
    made = torch.stack([bag.rows[run].mean(0) for run in ids]) + bag.mean
    assert ((made - vectors) ** 2).sum() < ((bag.mean - vectors) ** 2).sum()
