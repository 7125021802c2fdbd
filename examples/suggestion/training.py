"""Training of the suggester: a T5 of two layers a side, from random weights, on pairs of titles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from examples.suggestion.dataset import TitlePairs

PAD, END = "<pad>", "</s>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Choices of a run."""

    seed: int = 3
    vocabulary: int = 3000
    width: int = 128
    layers: int = 2
    batch: int = 64
    epochs: int = 3
    rate: float = 3e-3


@dataclass(frozen=True, slots=True)
class Suggester:
    """Model and tokenizer."""

    model: Any
    tokenizer: Any

    def suggest(self, titles: list[str], beams: int = 1, batch: int = 64) -> list[str]:
        """Writes the likeliest label of each title, as transformers does."""
        texts: list[str] = []
        for start in range(0, len(titles), batch):
            inputs = self.tokenizer(titles[start : start + batch], padding="longest", return_tensors="pt")
            rows = self.model.generate(**inputs, num_beams=beams, do_sample=False)
            texts += self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return texts

    def save(self, path: Path) -> Path:
        """Writes the checkpoint folder."""
        self.model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)
        return path


def train(
    pairs: TitlePairs,
    recipe: Recipe = Recipe(),
    on_step: Callable[[int, int, float], None] = lambda *_: None,
) -> Suggester:
    """Learns the labels of titles."""
    torch.set_num_threads(1)  # its products are too small to be worth sharing
    torch.manual_seed(recipe.seed)
    tokenizer = tokenizer_of(pairs, recipe.vocabulary)
    model = T5ForConditionalGeneration(_config(recipe, len(tokenizer)))
    model.generation_config.max_new_tokens = 24
    ids = [_ids(tokenizer, texts) for texts in (pairs.titles, pairs.labels)]
    batches = list(_batches(ids[0], ids[1], recipe))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=0.01)
    model.train()
    for step, (source, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 100) * (1 - step / len(batches))
        mask = source != tokenizer.pad_token_id
        loss = model(input_ids=source, attention_mask=mask.long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step + 1, len(batches), loss.item())
    model.eval()
    return Suggester(model, tokenizer)


def tokenizer_of(pairs: TitlePairs, size: int) -> PreTrainedTokenizerFast:
    """Learns pieces of the words of titles and labels; each text ends in the end token, as T5's."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    inner.decoder = decoders.Metaspace()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[PAD, END], show_progress=False)
    inner.train_from_iterator([*pairs.titles, *sorted(set(pairs.labels))], trainer)
    inner.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"$A {END}", special_tokens=[(END, 1)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call, no-any-return]
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        model_input_names=["input_ids", "attention_mask"],
    )


def _config(recipe: Recipe, vocabulary: int) -> T5Config:
    return T5Config(
        vocab_size=vocabulary,
        d_model=recipe.width,
        d_kv=recipe.width // 4,
        d_ff=2 * recipe.width,
        num_heads=4,
        num_layers=recipe.layers,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts).input_ids
    return ids


def _batches(
    sources: list[list[int]], targets: list[list[int]], recipe: Recipe
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields padded batches of every epoch, each of titles of like length."""
    rng = np.random.default_rng(recipe.seed)
    for _ in range(recipe.epochs):
        shuffled = rng.permutation(len(sources))
        order = shuffled[
            np.argsort([len(sources[row]) + len(targets[row]) for row in shuffled], kind="stable")
        ]
        starts = np.arange(0, len(order), recipe.batch)
        for start in rng.permutation(starts):
            rows = order[start : start + recipe.batch]
            yield _padded([sources[row] for row in rows], 0), _padded([targets[row] for row in rows], -100)


def _padded(rows: list[list[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
