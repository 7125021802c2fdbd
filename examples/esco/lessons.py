"""The training of the ranker: its query vectors follow the teacher's, and phrases find their own occupations.

The first is learned from texts about everything, the second from training phrases against all training items. Items
need no part in the decoder's passes: an item's score is the distance of its token to the query's vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from examples.esco.decoder import LateDecoder
from examples.esco.learning import ItemTargets, Optimizer, drop_pieces, random_batches, respell
from examples.esco.vocabulary import PREFIX_MAX_TOKENS, spellings
from examples.progress import counted

CHUNK = 48  # prefixes of similar length that pass the decoder together


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Texts of each kind in a batch."""

    phrases: int = 48
    practice: int = 64
    words: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonConfig:
    """Every choice of the training, made on the valid splits."""

    steps: int = 600
    batch: BatchShape = field(default_factory=BatchShape)
    rate: float = 7e-4
    row_rate: float = 3e-4
    weight_decay: float = 0.05
    drop: float = 0.05  # share of a phrase's pieces
    respelt: float = 0.15  # share of words that are fed in pieces
    teaching: float = 3.0  # weight of 1 - cosine to the teacher's vector
    ranking: float = 0.5  # weight of the teacher's order of the training items
    choosing: float = 0.05  # weight of a phrase's own choice among them
    length: float = 0.05  # weight, in the teaching, of the squared distance of a vector's length to 1
    sharpness: float = 20.0  # of the cosines in both


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts of one kind as prefixes, and the vectors that they should have."""

    prefixes: Sequence[list[int]]
    vectors: torch.Tensor  # [texts, hidden]


def train_queries(
    decoder: LateDecoder,
    phrases: Lesson,
    practice: Lesson,
    words: Lesson,
    targets: ItemTargets,
    item_tokens: torch.Tensor,
    config: LessonConfig,
    rng: np.random.Generator,
) -> None:
    """Trains `decoder`; `phrases` are in the order of `targets`, `item_tokens` [training items, hidden]."""
    spelt, shape = spellings(decoder.tokenizer), config.batch
    optimizer = Optimizer(decoder.model, config.rate, config.row_rate, config.weight_decay, config.steps)
    batches = zip(
        _rows(phrases, shape.phrases, config.steps, rng),
        _rows(practice, shape.practice, config.steps, rng),
        _rows(words, shape.words, config.steps, rng),
        strict=True,
    )
    drawn = list(batches)
    for step in counted(len(drawn), "queries"):
        of_phrases, of_practice, of_words = drawn[step]
        runs = [drop_pieces(phrases.prefixes[row], config.drop, rng) for row in of_phrases]
        runs += [practice.prefixes[row] for row in of_practice]
        runs = [respell(run, spelt, config.respelt, rng)[: 1 + PREFIX_MAX_TOKENS] for run in runs]
        runs += [words.prefixes[row] for row in of_words]
        wanted = torch.cat(
            [phrases.vectors[of_phrases], practice.vectors[of_practice], words.vectors[of_words]]
        )
        vectors = query_vectors(decoder, runs)
        units = functional.normalize(vectors, dim=-1)
        scores = config.sharpness * units @ item_tokens.T
        order = torch.softmax(config.sharpness * wanted @ item_tokens.T, 1)
        teaching = (1 - (units * wanted).sum(1)).mean()
        teaching = teaching + config.length * ((vectors.norm(dim=1) - 1) ** 2).mean()
        optimizer.step(
            config.teaching * teaching
            + config.ranking * functional.cross_entropy(scores, order)
            + config.choosing
            * functional.cross_entropy(scores[: len(of_phrases)], targets.draw(of_phrases, rng))
        )
        decoder.constrain()


def query_vectors(decoder: LateDecoder, prefixes: Sequence[list[int]]) -> torch.Tensor:
    """Query vectors in bfloat16 arithmetic, prefixes of similar length together. [prefixes, hidden]"""
    order = sorted(range(len(prefixes)), key=lambda row: len(prefixes[row]))
    chunks = np.array_split(np.array(order), max(1, len(order) // CHUNK))
    with torch.autocast("cpu", torch.bfloat16):
        vectors = torch.cat([decoder.query_vectors([prefixes[row] for row in chunk]) for chunk in chunks])
    return vectors[torch.from_numpy(np.argsort(order))]


def _rows(lesson: Lesson, batch: int, steps: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    return random_batches(len(lesson.prefixes), batch, steps, rng)
