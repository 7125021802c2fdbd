"""Trains a tagger on MiniLM's body: BertForTokenClassification, labels on the first token of each word."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerBase

from examples.esco.minilm import minilm_path
from examples.tagging.dataset import TaggedTexts

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast to train."""

    epochs: float = 0.5
    batch_tokens: int = 256
    rate: float = 6e-4
    max_tokens: int = 96
    frozen_layers: int = 2  # first ones, with the embeddings
    seed: int = 0


def train_tagger(
    texts: TaggedTexts, out: Path, recipe: Recipe = Recipe(), on_step: Callable[[str], None] = print
) -> Path:
    """Fine-tunes and saves a checkpoint folder; returns it."""
    torch.manual_seed(recipe.seed)
    tokenizer = plain_tokenizer(minilm_path())
    model = _model(texts.names, recipe)
    examples = _examples(texts, tokenizer, recipe)
    batches = list(_batches([len(ids) for ids, _ in examples], recipe))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=len(batches), pct_start=0.1, anneal_strategy="linear"
    )
    model.train()
    for step, rows in enumerate(batches, 1):
        loss = model(**_padded([examples[row] for row in rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == len(batches):
            on_step(f"step {step}/{len(batches)}: loss {loss.item():.3f}")
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def plain_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads a tokenizer without the truncation and padding that its file may have built in."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer  # type: ignore[no-any-return]


def _model(names: Sequence[str], recipe: Recipe) -> Any:
    model = AutoModelForTokenClassification.from_pretrained(
        minilm_path(),
        local_files_only=True,
        dtype=torch.float32,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    if recipe.frozen_layers:
        for part in (model.bert.embeddings, *model.bert.encoder.layer[: recipe.frozen_layers]):
            part.requires_grad_(False)
    return model


def _examples(texts: TaggedTexts, tokenizer: Any, recipe: Recipe) -> list[tuple[list[int], list[int]]]:
    """Tokenizes words; gives ids and labels of each text, labels of first tokens alone."""
    places = {name: index for index, name in enumerate(texts.names)}
    encoded = tokenizer(texts.words, is_split_into_words=True, truncation=True, max_length=recipe.max_tokens)
    examples = []
    for row, tags in enumerate(texts.tags):
        words = encoded.word_ids(row)
        labels = [
            _IGNORED if word is None or word == before else places[tags[word]]
            for before, word in zip([None, *words[:-1]], words, strict=True)
        ]
        examples.append((encoded["input_ids"][row], labels))
    return examples


def _batches(lengths: Sequence[int], recipe: Recipe) -> Iterator[list[int]]:
    """Draws batches of texts of similar length, as many as the epochs have."""
    rng = np.random.default_rng(recipe.seed)
    left = recipe.epochs
    while left > 0:
        noisy = np.argsort(np.array(lengths) + rng.uniform(0, 3, len(lengths)), kind="stable")
        batches: list[list[int]] = []
        for row in noisy.tolist():
            if batches and (len(batches[-1]) + 1) * lengths[row] <= recipe.batch_tokens:
                batches[-1].append(row)
            else:
                batches.append([row])
        order = rng.permutation(len(batches))[: int(np.ceil(min(left, 1) * len(batches)))]
        yield from (batches[index] for index in order)
        left -= 1


def _padded(examples: Sequence[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(ids) for ids, _ in examples)
    return {
        "input_ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in examples]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in examples]),
        "labels": torch.tensor([own + [_IGNORED] * (longest - len(own)) for _, own in examples]),
    }
