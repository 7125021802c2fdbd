"""The lessons on a toy: a query finds its items, and words that no phrase has follow the teacher."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from examples.esco.bag import Bag
from examples.esco.dataset import Dataset, Item, Phrase
from examples.esco.decoder import LateDecoder, Shape
from examples.esco.learning import ItemTargets
from examples.esco.lessons import BatchShape, Lesson, LessonConfig, query_vectors, train_queries
from examples.esco.teacher import Head, HeadConfig, Texts, by_nearness
from examples.esco.vocabulary import build_tokenizer

HIDDEN = 48
WORDS = [f"{first}{second}{third}" for first in "abcd" for second in "eiou" for third in "klmn"]
SHAPE = Shape(layers=2, heads=3, intermediate_size=32)


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    """Of each word, none along the first direction. [words, hidden]"""
    made = torch.randn(len(WORDS), HIDDEN, generator=torch.Generator().manual_seed(0))
    made[:, 0] = 0
    return functional.normalize(made, dim=-1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    items = tuple(Item(str(row), word, "", str(row)) for row, word in enumerate(WORDS[:16]))
    phrases = tuple(Phrase(f"{item.title} {item.title}", frozenset([item.id])) for item in items)
    return Dataset(items, (), phrases, frozenset())


def test_a_trained_query_has_the_teachers_direction_and_length_one(dataset, vectors):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(WORDS)
    bag = Bag(torch.randn(len(tokenizer), HIDDEN) / HIDDEN**0.5, torch.zeros(HIDDEN))
    decoder = LateDecoder.build(SHAPE, tokenizer, bag, torch.eye(HIDDEN)[0])

    def lesson(texts: list[str], wanted: torch.Tensor) -> Lesson:
        return Lesson(decoder.prefixes(texts), wanted)

    words = lesson(WORDS, vectors)
    phrases = lesson([phrase.text for phrase in dataset.phrases], vectors[:16])
    config = LessonConfig(
        steps=60, batch=BatchShape(8, 8, 32), rate=3e-3, row_rate=5e-2, teaching=10.0, drop=0.0, respelt=0.0
    )
    targets = ItemTargets(dataset, group_share=0.0)
    train_queries(decoder, phrases, words, words, targets, vectors[:16], config, np.random.default_rng(0))
    with torch.no_grad():
        made = query_vectors(decoder, words.prefixes)
        found = query_vectors(decoder, phrases.prefixes) @ vectors[:16].T
    assert functional.cosine_similarity(made, vectors).mean() > 0.9
    assert (made.norm(dim=1) - 1).abs().mean() < 0.4
    assert (found.argmax(1) == torch.arange(16)).all()


def test_prefixes_of_different_lengths_come_back_in_their_order():
    torch.manual_seed(0)
    tokenizer = build_tokenizer(WORDS)
    bag = Bag(torch.randn(len(tokenizer), HIDDEN) / HIDDEN**0.5, torch.zeros(HIDDEN))
    decoder = LateDecoder.build(SHAPE, tokenizer, bag, torch.eye(HIDDEN)[0])
    prefixes = decoder.prefixes([" ".join(WORDS[: 1 + row % 5]) for row in range(120)])
    with torch.no_grad():
        vectors = query_vectors(decoder, prefixes)
        alone = torch.cat([query_vectors(decoder, [run]) for run in prefixes[:5]])
    torch.testing.assert_close(vectors[:5], alone, atol=0.02, rtol=0.02)
    torch.testing.assert_close(vectors[5:10], vectors[:5], atol=0.02, rtol=0.02)


def test_a_head_turns_phrases_to_their_items(dataset, vectors):
    turn = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(1)))[0]
    phrases = (vectors[:16] @ turn).numpy()
    head = Head.fit(
        phrases,
        ItemTargets(dataset, group_share=0.0),
        vectors[:16],
        20.0,
        HeadConfig(epochs=60, batch=8, rate=2e-2),
        np.random.default_rng(0),
    )
    turned = head(torch.from_numpy(phrases))
    torch.testing.assert_close(turned.norm(dim=1), torch.ones(16))
    assert ((turned @ vectors[:16].T).argmax(1) == torch.arange(16)).all()


def test_words_come_in_the_order_of_their_nearness_to_phrases():
    rng = np.random.default_rng(0)
    phrases = Texts(("p",) * 80, np.tile(np.eye(4, dtype=np.float32)[0], (80, 1)))
    cosines = rng.permutation(np.linspace(0, 1, 50)).astype(np.float32)
    words = Texts(
        tuple(f"{cosine:.4f}" for cosine in cosines),
        np.stack([cosines, np.sqrt(1 - cosines**2), 0 * cosines, 0 * cosines], 1),
    )
    near = by_nearness(words, phrases)
    assert list(near.texts) == sorted(words.texts, reverse=True)
    np.testing.assert_allclose(near.vectors[:, 0], np.sort(cosines)[::-1])
