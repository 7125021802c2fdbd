"""Lessons of the ranker's query vectors: MiniLM's vectors of many texts, turned by a linear head.

MiniLM tells texts apart; the head, fitted on training phrases and their occupations, says which differences matter to
the task. It is linear, so it holds for words that no training phrase has. Reads no held-out item.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from examples.esco.dataset import Dataset
from examples.esco.learning import ItemTargets, random_batches
from examples.esco.minilm import MiniLM
from examples.esco.practice import PracticeTexts
from examples.esco.vocabulary import english_words, known_words, words_of

NEAREST = 10  # phrases that say how near a word is to the domain
PHRASE_STEP = 4  # of the phrases it is compared with


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of one kind and MiniLM's unit vectors of them."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]  # [texts, hidden]

    @classmethod
    def encode(cls, texts: list[str], minilm: MiniLM) -> "Texts":
        """Asks MiniLM."""
        return cls(tuple(texts), minilm.encode(texts))


@dataclass(frozen=True, slots=True)
class Teacher:
    """All that the ranker learns from."""

    phrases: Texts  # of the dataset, in its order
    words: Texts  # of MiniLM's vocabulary, of English, of the training texts; the nearest to the domain first
    practice: Texts

    @classmethod
    def build(
        cls, dataset: Dataset, minilm: MiniLM, practice: int, practice_words: int, rng: np.random.Generator
    ) -> "Teacher":
        """Draws `practice` texts with the `practice_words` nearest words, and encodes everything."""
        phrases = Texts.encode([phrase.text for phrase in dataset.phrases], minilm)
        read = (*phrases.texts, *(dataset.items[row].text for row in dataset.training_rows()))
        known = {*known_words(minilm.tokenizer.backend_tokenizer), *english_words()}
        words = by_nearness(Texts.encode(sorted(known.union(*map(words_of, read))), minilm), phrases)
        texts = PracticeTexts.of(dataset, words.texts[:practice_words]).draw(practice, rng)
        return cls(phrases, words, Texts.encode(texts, minilm))


def by_nearness(words: Texts, phrases: Texts) -> Texts:
    """The words in the order of their mean cosine to the `NEAREST` nearest phrases."""
    some = phrases.vectors[::PHRASE_STEP]
    blocks = np.array_split(words.vectors, 1 + len(words.texts) // 1000)
    nearness = np.concatenate(
        [np.partition(block @ some.T, -NEAREST, 1)[:, -NEAREST:].mean(1) for block in blocks]
    )
    order = np.argsort(-nearness, kind="stable")
    return Texts(tuple(words.texts[row] for row in order), words.vectors[order])


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """Choices of the head's fit."""

    epochs: int = 3
    batch: int = 256
    rate: float = 1e-3


@dataclass(frozen=True, slots=True)
class Head:
    """A linear map of unit vectors, and unit length again."""

    weight: torch.Tensor  # [hidden, hidden] what is added

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Turns `vectors` [texts, hidden]."""
        return functional.normalize(vectors + vectors @ self.weight, dim=-1)

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.float32],
        targets: ItemTargets,
        item_tokens: torch.Tensor,
        sharpness: float,
        config: HeadConfig,
        rng: np.random.Generator,
    ) -> "Head":
        """Pulls phrases' `vectors` [phrases, hidden] to their own among `item_tokens` [training items, hidden]."""
        head = cls(torch.zeros(vectors.shape[1], vectors.shape[1], requires_grad=True))
        adam = torch.optim.AdamW([head.weight], lr=config.rate, weight_decay=0.01)
        steps = config.epochs * len(vectors) // config.batch
        for step, batch in enumerate(random_batches(len(vectors), config.batch, steps, rng)):
            for group in adam.param_groups:
                group["lr"] = config.rate * (1 - step / steps)
            scores = sharpness * head(torch.from_numpy(vectors[batch])) @ item_tokens.T
            adam.zero_grad()
            functional.cross_entropy(scores, targets.draw(batch, rng)).backward()  # type: ignore[no-untyped-call]
            adam.step()
        return cls(head.weight.detach())
