"""The two stages of the training: the query's vector against all training items, then whole lists by the score.

The first reads prefixes alone, and so costs a fraction of the second; it trains every layer but the last. Both learn
from phrases and their occupations, and from what MiniLM says of phrases and of single words; the words keep alive what
no phrase of the training has.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.nn import functional

from examples.esco.dataset import Dataset
from examples.esco.learning import (
    ItemTargets,
    Optimizer,
    add_noise,
    distillation_loss,
    drop_words,
    listwise_loss,
    random_batches,
)
from examples.esco.lists import ListSampler, ListShape
from examples.esco.packing import PackedBatch, logit_gaps, pack
from examples.esco.teacher import Teacher
from examples.esco.vocabulary import PromptIds, words_of

NEAR = 64  # training items nearest to a word, of which its list has some


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """Every choice of a stage, made on the valid splits."""

    steps: int
    batch: int  # phrases
    words: int  # single words beside them
    fragments: int = 0  # of training items' texts, whose item is their target
    rate: float
    row_rate: float
    weight_decay: float = 0.05
    drop: float = 0.1  # share of a phrase's tokens
    noise: float = 0.3  # length of what turns an item's token
    group_share: float = 0.4  # of the target, for the rest of the unit group
    partial_weight: float = 0.25  # of a partial item in a list's target; the positive's is 1
    distillation: float = 0.3  # share of the teacher in the loss of phrases
    beside: float = 0.3  # weight of the losses of words and fragments
    keeping: float = 3.0  # weight of the loss that holds items' states before the last layer where they are
    scale: float = 6.0  # of the score in the losses; served scores are plainer than a softmax over a list
    sharpness: float  # of the teacher's cosines


@dataclass(frozen=True, slots=True)
class Material:
    """Inputs that a stage trains with."""

    model: Any
    tokenizer: Any
    dataset: Dataset
    teacher: Teacher
    item_tokens: NDArray[np.float16]  # [items of the dataset, hidden]
    constant: torch.Tensor  # [hidden] direction in which every item's token is zero

    def prefixes(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text as a query."""
        ids = PromptIds.of(self.tokenizer)
        return [ids.prefix(self.tokenizer, text) for text in texts]

    def training_tokens(self) -> torch.Tensor:
        """Tokens of the items that training may read. [training items, hidden]"""
        return torch.from_numpy(self.item_tokens[list(self.dataset.training_rows())].astype(np.float32))


def hidden_states(model: Any, batch: PackedBatch) -> torch.Tensor:
    """States before the last layer. [batch, prefix and items, hidden]"""
    decoder = model.model
    states = torch.cat([decoder.embed_tokens(batch.ids), batch.item_tokens], 1)
    turns = decoder.rotary_emb(states, batch.positions)
    for layer in decoder.layers[:-1]:
        states = layer(states, attention_mask=batch.mask, position_embeddings=turns)
    return states.float()


def quick_gaps(
    model: Any, states: torch.Tensor, items: torch.Tensor, constant: torch.Tensor, labels: tuple[int, int]
) -> torch.Tensor:
    """Logit gaps of all `items` [items, hidden] for every prefix, as the start computes them. [prefixes, items]

    `states` are those of each prefix before the last layer, zero at pads. Exact while the last layer attends evenly,
    adds no more than that, and items reach it as they are.
    """
    last = model.model.layers[-1]
    lengths = (states.abs().sum(-1) > 0).sum(1, keepdim=True)
    total = last.self_attn.o_proj(last.self_attn.v_proj(last.input_layernorm(states).sum(1))).float()
    own = last.self_attn.o_proj(last.self_attn.v_proj(last.input_layernorm(items))).float()
    seen = lengths + 1.0  # tokens that an item attends to
    query, ends = total / seen, 1 / seen
    squares = (
        (items**2).sum(1)
        + 2 * ends * (items * own).sum(1)
        + ends**2 * (own**2).sum(1)
        + (query**2).sum(1, keepdim=True)
        + 2 * (query @ items.T + ends * (query @ own.T))
    )  # of |item + ends own + query|
    rest = (query @ constant)[:, None] + ends * (own @ constant)
    yes, no = model.get_output_embeddings().weight[list(labels)].detach()
    return ((yes - no) @ constant) * len(constant) ** 0.5 * rest / squares.sqrt()


def train_queries(material: Material, config: StageConfig, rng: np.random.Generator) -> None:
    """Pulls each phrase's vector to its own items among all training items; the item side stays as it is."""
    dataset, teacher, model = material.dataset, material.teacher, material.model
    rows = dataset.training_rows()
    tokens, targets = material.training_tokens(), ItemTargets(dataset, config.group_share)
    places = {dataset.items[row].id: place for place, row in enumerate(rows)}
    owners = [[places[id] for id in sorted(phrase.item_ids)] for phrase in dataset.phrases]
    prefixes = material.prefixes([phrase.text for phrase in dataset.phrases])
    words, ids = material.prefixes(list(teacher.words)), PromptIds.of(material.tokenizer)
    item_words = [words_of(dataset.items[row].text) for row in rows]
    optimizer = Optimizer(model, config.rate, config.row_rate, config.weight_decay, config.steps)
    for batch in track(random_batches(len(prefixes), config.batch, config.steps, rng), "queries"):
        some_words = rng.choice(len(words), config.words, replace=False)
        some_items = rng.choice(len(rows), config.fragments, replace=False)
        fragments = [fragment(item_words[item], rng) for item in some_items]
        runs = [drop_words(prefixes[phrase], config.drop, rng) for phrase in batch]
        runs += [words[word] for word in some_words] + material.prefixes(fragments)
        kept = tokens[rng.choice(len(rows), len(runs))]
        packed = pack(runs, kept[:, None], ids.pad)
        with torch.autocast("cpu", torch.bfloat16):
            states = hidden_states(model, packed)
            prefix = states[:, :-1] * (packed.ids != ids.pad)[..., None]
            scores = config.scale * quick_gaps(model, prefix, tokens, material.constant, ids.labels)
        moved = states[:, -1] - kept
        of_phrases, of_words, of_items = scores.split([len(batch), len(some_words), len(some_items)])
        meant = np.array([rng.choice(owners[phrase]) for phrase in batch])
        phrase_cosines = torch.from_numpy(teacher.phrases[batch]) @ tokens.T
        word_cosines = torch.from_numpy(teacher.word_vectors[some_words]) @ tokens.T
        optimizer.step(
            (1 - config.distillation) * functional.cross_entropy(of_phrases, targets.of(meant))
            + config.distillation * distillation_loss(of_phrases, phrase_cosines, config.sharpness)
            + config.beside * distillation_loss(of_words, word_cosines, config.sharpness)
            + config.beside * functional.cross_entropy(of_items, targets.of(some_items))
            + config.keeping * (moved**2).sum(1).mean()
        )


def fragment(words: list[str], rng: np.random.Generator) -> str:
    """One to five words of an item's text, in a row; often its first ones, which are the title."""
    size = int(rng.integers(1, 6))
    start = 0 if rng.random() < 0.3 else int(rng.integers(0, max(1, len(words) - size + 1)))
    return " ".join(words[start : start + size])


def train_lists(material: Material, config: StageConfig, shape: ListShape, rng: np.random.Generator) -> None:
    """Trains the score itself on lists of a phrase's items and hard negatives, and of words and near items."""
    dataset, teacher, model = material.dataset, material.teacher, material.model
    sampler = ListSampler.build(dataset, material.item_tokens, shape)
    all_tokens = torch.from_numpy(material.item_tokens.astype(np.float32))
    training_tokens = material.training_tokens()
    prefixes = material.prefixes([phrase.text for phrase in dataset.phrases])
    words = material.prefixes(list(teacher.words))
    ids = PromptIds.of(material.tokenizer)
    optimizer = Optimizer(model, config.rate, config.row_rate, config.weight_decay, config.steps)
    for batch in track(random_batches(len(prefixes), config.batch, config.steps, rng), "lists"):
        rows, gains = sampler.draw_batch(batch.tolist(), rng)
        some_words = rng.choice(len(words), config.words, replace=False)
        word_vectors = torch.from_numpy(teacher.word_vectors[some_words])
        near = near_and_random(word_vectors @ training_tokens.T, shape.items, rng)
        tokens = torch.cat([all_tokens[rows], training_tokens[near]])
        vectors = torch.cat([torch.from_numpy(teacher.phrases[batch]), word_vectors])
        cosines = torch.einsum("bh,bih->bi", vectors, tokens)
        runs = [drop_words(prefixes[phrase], config.drop, rng) for phrase in batch]
        runs += [words[word] for word in some_words]
        packed = pack(runs, add_noise(tokens, config.noise, material.constant), ids.pad)
        with torch.autocast("cpu", torch.bfloat16):
            gaps = logit_gaps(model, packed, ids.labels)
        gaps, judged = config.scale * gaps, torch.from_numpy(gains)
        of_phrases = gaps[: len(batch)]
        optimizer.step(
            (1 - config.distillation) * listwise_loss(of_phrases, judged, config.partial_weight)
            + config.distillation * distillation_loss(gaps, cosines, config.sharpness)
        )


def near_and_random(cosines: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Columns of `cosines` [rows, items]: half of `count` among the `NEAR` best, the others any. [rows, count]"""
    best = cosines.topk(NEAR, 1).indices
    half = count // 2
    near = torch.stack([row[torch.from_numpy(rng.permutation(NEAR)[:half])] for row in best])
    others = torch.from_numpy(rng.integers(0, cosines.shape[1], (len(cosines), count - half)))
    return torch.cat([near, others], 1)
