"""The benchmark's model: Qwen3-shaped, 8 layers x 512, random, with a tokenizer whose words are single tokens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

VOCABULARY, KV_HEADS = 32_000, 4
CONFIG = Qwen3Config(  # type: ignore[call-arg]
    vocab_size=VOCABULARY,
    hidden_size=512,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=KV_HEADS,
    head_dim=64,
    intermediate_size=1536,
    num_labels=1,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One request shape."""

    prefix: int  # tokens
    items: int
    item: int  # tokens

    @property
    def name(self) -> str:
        """Name in the tables."""
        return f"{self.prefix} + {self.items} x {self.item}"


CASES = (Case(256, 64, 32), Case(60, 50, 2), Case(60, 250, 2), Case(50, 50, 150))


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids of one request, equal lengths."""

    prefix: list[int]
    items: list[list[int]]

    @classmethod
    def random(cls, case: Case, seed: int) -> "Request":
        """Seeded ids, special tokens left out."""
        rng = np.random.default_rng(seed)
        draw = rng.integers(3, VOCABULARY, case.prefix + case.items * case.item).tolist()
        items = [draw[case.prefix + i * case.item :][: case.item] for i in range(case.items)]
        return cls(draw[: case.prefix], items)

    def texts(self) -> tuple[str, list[str]]:
        """Makes texts of as many tokens, for the benchmark's tokenizer."""
        return words(self.prefix), [words(item) for item in self.items]


def words(ids: list[int]) -> str:
    """Text that tokenizes to exactly these ids."""
    return " ".join(f"w{token}" for token in ids)


def save_checkpoint(folder: Path, config: PreTrainedConfig = CONFIG) -> Path:
    """A sequence-classification checkpoint, so that every contender answers with the same single logit."""
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(folder)  # type: ignore[no-untyped-call]
    vocabulary = {("[PAD]", "[BOS]", "[EOS]")[i] if i < 3 else f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    ).save_pretrained(folder)
    return folder
