"""A language model of titles, character by character: so what is typed is always whole tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every choice of a training."""

    seed: int = 0
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    epochs: int = 2
    batch: int = 128  # titles
    learning_rate: float = 4e-3


def train(
    titles: Sequence[str],
    recipe: Recipe,
    out: Path,
    on_step: Callable[[int, int], None] = lambda done, all_: None,
) -> Path:
    """Trains on the titles and writes a checkpoint."""
    torch.manual_seed(recipe.seed)
    tokenizer = character_tokenizer(titles)
    model = _model(recipe, tokenizer.get_vocab_size())
    ids = [[*run.ids, 2] for run in tokenizer.encode_batch(list(titles))]
    batches = _batches(ids, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98))
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            falling = 0.5 * (1 + math.cos(math.pi * step / len(batches)))
            group["lr"] = recipe.learning_rate * min(1.0, (step + 1) / 50) * falling
        loss = model(input_ids=batch.clamp(min=0), labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step + 1, len(batches))
    model.eval().save_pretrained(out)
    names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(out)
    return out


def character_tokenizer(titles: Sequence[str]) -> Tokenizer:
    """Makes a tokenizer whose tokens are the characters of the titles; a text begins behind <s>."""
    characters = sorted({character for title in titles for character in title})
    vocabulary = {token: place for place, token in enumerate((*SPECIAL, *characters))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{SPECIAL[1]} $A", special_tokens=[(SPECIAL[1], 1)]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    return tokenizer


def _model(recipe: Recipe, vocabulary: int) -> Any:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=3 * recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).train()


def _batches(ids: Sequence[Sequence[int]], recipe: Recipe) -> list[torch.Tensor]:
    """Makes batches of titles of like length, in an order that is drawn anew each epoch; -100 is padding."""
    rng, batches = np.random.default_rng(recipe.seed), list[torch.Tensor]()
    for _ in range(recipe.epochs):
        order = sorted(rng.permutation(len(ids)).tolist(), key=lambda place: len(ids[place]))
        parts = [order[start : start + recipe.batch] for start in range(0, len(order), recipe.batch)]
        batches += [
            _padded([ids[place] for place in parts[part]]) for part in rng.permutation(len(parts)).tolist()
        ]
    return batches


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[-100] * (longest - len(row))] for row in rows])
