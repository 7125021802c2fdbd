import numpy as np
import pytest

from examples.esco.dataset import Dataset
from examples.esco.lists import ListSampler, ListShape

PHRASES = range(0, 22_500, 375)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.load()


@pytest.fixture(scope="module")
def sampler(dataset) -> ListSampler:
    tokens = np.random.default_rng(0).normal(size=(len(dataset.items), 8))
    return ListSampler.build(dataset, tokens / np.linalg.norm(tokens, axis=1, keepdims=True), ListShape())


def test_a_list_is_its_phrases_item_first_and_fifteen_different_others(dataset, sampler):
    rows, gains = sampler.draw_batch(PHRASES, np.random.default_rng(1))
    assert rows.shape == gains.shape == (len(PHRASES), 16)
    for phrase, row in zip(PHRASES, rows, strict=True):
        owners = dataset.phrases[phrase].item_ids
        assert len(set(row.tolist())) == 16
        assert dataset.items[row[0]].id in owners
        assert owners.isdisjoint(dataset.items[other].id for other in row[1:])


def test_no_list_has_a_held_out_item(dataset, sampler):
    rows, _ = sampler.draw_batch(PHRASES, np.random.default_rng(2))
    assert dataset.held_out.isdisjoint(dataset.items[row].id for row in rows.ravel())
    read = {dataset.items[row].id for row in sampler.rows}
    assert read.isdisjoint(dataset.held_out)
    for pool in (sampler.lexical, sampler.semantic, *sampler.units, *sampler.minor_groups):
        assert pool.max() < len(read)


def test_no_other_owner_of_a_phrase_is_a_negative(dataset, sampler):
    shared = [row for row, phrase in enumerate(dataset.phrases) if len(phrase.item_ids) > 2]
    rows, _ = sampler.draw_batch(shared, np.random.default_rng(1))
    for phrase, row in zip(shared, rows, strict=True):
        assert len(dataset.phrases[phrase].item_ids & {dataset.items[item].id for item in row}) == 1


def test_gains_follow_the_unit_group(dataset, sampler):
    rows, gains = sampler.draw_batch(PHRASES, np.random.default_rng(1))
    for row, gain in zip(rows, gains, strict=True):
        isco = [dataset.items[item].isco for item in row]
        assert gain.tolist() == [2, *(int(other == isco[0]) for other in isco[1:])]


def test_lists_are_reproducible_and_differ_between_draws(sampler):
    rng = np.random.default_rng(5)
    first, second = sampler.draw(9, rng)[0], sampler.draw(9, rng)[0]
    assert np.array_equal(first, sampler.draw(9, np.random.default_rng(5))[0])
    assert not np.array_equal(first, second)
