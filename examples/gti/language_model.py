"""A small causal LM of job titles: `python -m examples.gti.language_model --out FOLDER`.

The model that grounding extends. Two Qwen3 layers over the ESCO demo's tokenizer, trained on the titles of
examples/esco; embeddings start from the demo ranker's, projected to the width on their first principal components.
The demo's ranker itself is no LM: its cross-entropy on titles is that of guessing.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from examples.arguments import add_out, at_least
from examples.esco.dataset import Dataset
from examples.heap import keep_freed_memory
from examples.progress import counted

ESCO = Path(__file__).parent.parent / "esco" / "checkpoint"
_LENGTH = 32  # tokens of a packed row


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelConfig:
    """Every choice of a run."""

    seed: int = 7
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    steps: int = 300
    batch: int = 32  # packed rows
    learning_rate: float = 3e-3
    tied: bool = True  # one table for input and output


def texts_of(dataset: Dataset) -> list[str]:
    """Every title phrase, then each item's title with its description."""
    phrases = [phrase.text for phrase in dataset.phrases]
    return phrases + [f"{item.title} : {item.description[:120]}" for item in dataset.items]


def train(texts: list[str], config: LanguageModelConfig, out: Path, tokenizer: Any = None) -> float:
    """Trains on 95 % of `texts` and writes a checkpoint. Returns the held-out cross-entropy in nats a token.

    `tokenizer`: another one than the demo's; embeddings then start at random.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    build: Any = AutoTokenizer
    start = None if tokenizer else _demo_rows(config.hidden)
    tokenizer = tokenizer or build.from_pretrained(ESCO, local_files_only=True)
    model = _model(config, tokenizer, start)
    ids = [
        [tokenizer.bos_token_id, *run, tokenizer.eos_token_id]
        for run in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]
    rng.shuffle(ids)
    held = len(ids) // 20
    rows, evaluated = _pack(ids[held:]), _pack(ids[:held])[:256]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    for step in counted(config.steps, "training the LM"):
        for group in optimizer.param_groups:
            cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 20) * cosine
        batch = rows[torch.from_numpy(rng.integers(0, len(rows), config.batch))]
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        cross_entropy = float(model(evaluated, labels=evaluated).loss)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return cross_entropy


def _demo_rows(width: int) -> torch.Tensor:
    """Projects the demo ranker's embeddings. [tokens, width]"""
    with safe_open(ESCO / "model.safetensors", framework="pt") as stored:
        table = stored.get_tensor("model.embed_tokens.weight").float()
    _, _, directions = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    rows: torch.Tensor = (table - table.mean(0)) @ directions[:width].T
    return 0.05 * rows / rows.std()


def _model(config: LanguageModelConfig, tokenizer: Any, start: torch.Tensor | None) -> Any:
    model: Any = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            intermediate_size=2 * config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            head_dim=config.hidden // config.heads,
            max_position_embeddings=256,
            tie_word_embeddings=config.tied,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    if start is not None:
        with torch.no_grad():
            model.get_input_embeddings().weight.copy_(start)
    return model.train()


def _pack(ids: list[list[int]]) -> torch.Tensor:
    """All sequences end to end in rows of equal length. [rows, _LENGTH]"""
    flat = [token for run in ids for token in run]
    return torch.tensor(flat[: len(flat) // _LENGTH * _LENGTH]).view(-1, _LENGTH)


def main() -> None:
    """Trains and prints the held-out cross-entropy."""
    parser = argparse.ArgumentParser(description="Trains a small causal LM of job titles.")
    add_out(parser)
    parser.add_argument("--steps", type=at_least(1), default=LanguageModelConfig().steps)
    given = parser.parse_args()
    config = LanguageModelConfig(steps=given.steps)
    print(f"held-out cross-entropy {train(texts_of(Dataset.load()), config, given.out):.3f} nats a token")


if __name__ == "__main__":
    main()
