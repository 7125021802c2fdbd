"""Trains a tagger on MiniLM's body: BertForTokenClassification, labels on the first token of each word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerBase

from examples.esco.minilm import minilm_path
from examples.esco.upper_layers import freeze, lower_states, run_layers
from examples.tagging.dataset import TaggedTexts

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """How much to read, and how fast to learn."""

    share: float = 0.5  # of the texts, each read once
    texts: int = 20  # a step
    rate: float = 6e-4
    max_tokens: int = 96
    frozen_layers: int = 2  # first ones, with the embeddings
    seed: int = 0


def train_tagger(
    texts: TaggedTexts, out: Path, recipe: Recipe = Recipe(), on_step: Callable[[str], None] = print
) -> Path:
    """Fine-tunes and saves a checkpoint folder; returns it."""
    torch.manual_seed(recipe.seed)
    tokenizer, model = plain_tokenizer(minilm_path()), _model(texts.names)
    drawn = np.random.default_rng(recipe.seed).permutation(len(texts))[: round(recipe.share * len(texts))]
    ids, labels = _tokens_and_labels(texts, drawn.tolist(), tokenizer, recipe)
    trained = [*freeze(model.bert, recipe.frozen_layers), *model.classifier.parameters()]
    states = lower_states(model.bert, ids, [[0] * len(run) for run in ids], recipe.frozen_layers)
    steps = len(ids) // recipe.texts
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps + 1, pct_start=0.1, anneal_strategy="linear"
    )
    for step in range(steps):
        rows = range(step * recipe.texts, (step + 1) * recipe.texts)
        last = run_layers(model.bert.encoder.layer[recipe.frozen_layers :], states.of(rows))
        wanted = torch.tensor([label for row in rows for label in labels[row]])
        loss = functional.cross_entropy(model.classifier(last.states), wanted, ignore_index=_IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49 or step == steps - 1:
            on_step(f"step {step + 1}/{steps}: loss {loss.item():.3f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def plain_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads a tokenizer without the truncation and padding that its file may have built in."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer  # type: ignore[no-any-return]


def _model(names: Sequence[str]) -> Any:
    return AutoModelForTokenClassification.from_pretrained(
        minilm_path(),
        local_files_only=True,
        dtype=torch.float32,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    ).eval()


def _tokens_and_labels(
    texts: TaggedTexts, rows: Sequence[int], tokenizer: Any, recipe: Recipe
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokenizes the words of some texts; gives ids and labels of each, labels of first tokens alone."""
    places = {name: index for index, name in enumerate(texts.names)}
    encoded = tokenizer(
        [texts.words[row] for row in rows],
        is_split_into_words=True,
        truncation=True,
        max_length=recipe.max_tokens,
    )
    labels = []
    for place, row in enumerate(rows):
        words = encoded.word_ids(place)
        labels.append(
            [
                _IGNORED if word is None or word == before else places[texts.tags[row][word]]
                for before, word in zip([None, *words[:-1]], words, strict=True)
            ]
        )
    return encoded["input_ids"], labels
