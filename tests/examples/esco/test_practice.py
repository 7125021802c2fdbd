"""Practice texts look like titles and are none that is held out."""

import numpy as np
import pytest

from examples.esco.dataset import Dataset, variant_key
from examples.esco.practice import PracticeTexts
from examples.esco.vocabulary import english_words

WORDS = ("soap", "tablet", "harbour", "violin")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.load()


@pytest.fixture(scope="module")
def texts(dataset) -> list[str]:
    return PracticeTexts.of(dataset, WORDS).draw(2000, np.random.default_rng(0))


def test_texts_are_different_none_is_a_phrase_and_none_varies_an_unread_title(dataset, texts):
    assert len(set(texts)) == len(texts) == 2000
    assert {phrase.text for phrase in dataset.phrases}.isdisjoint(texts)
    assert dataset.unread.isdisjoint(map(variant_key, texts))
    titles = [item.title for item in dataset.items if item.id in dataset.held_out]
    assert all(variant_key(title) in dataset.unread for title in titles)


def test_words_come_from_what_training_reads_and_the_words_given(dataset, texts):
    read = [phrase.text for phrase in dataset.phrases]
    read += [dataset.items[row].text for row in dataset.training_rows()]
    known = {key for text in read for key in variant_key(text)} | set(WORDS)
    assert {key for text in texts for key in variant_key(text)} <= known
    assert sum(any(word in text.split() for word in WORDS) for text in texts) > 600


def test_nearer_words_come_more_often_and_a_seed_gives_the_same_texts(dataset, texts):
    counts = [sum(word in text.split() for text in texts) for word in WORDS]
    assert counts[0] > 1.5 * counts[3]
    assert PracticeTexts.of(dataset, WORDS).draw(2000, np.random.default_rng(0)) == texts


def test_the_english_words_are_sixty_thousand_lower_case_ones_frequent_first():
    words = english_words()
    assert len(words) == len(set(words)) == 60_000
    assert all(word.isascii() and word.islower() and word.isalpha() and len(word) > 2 for word in words)
    assert words.index("water") < 1000 < words.index("veterinarian")
