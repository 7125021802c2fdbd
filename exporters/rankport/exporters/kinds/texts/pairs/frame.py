"""The frame of two texts: special tokens and token types around them, as the checkpoint's own tokenizer puts them."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from torch import nn

from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.exporters.options.prompts import word_of
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Prompt, Segment

FIRST_FIELD = "query"
_LARGEST_LIMIT = 1_000_000
"""Limits above it are transformers' way to say that there is none."""


@dataclass(frozen=True, slots=True)
class PairTokenizer:
    """The checkpoint's tokenizer as its owner runs it on two texts."""

    inner: Any  # a fast tokenizer of transformers
    file: Path

    @classmethod
    def of(cls, tokenizer_file: Path) -> Self:
        """Loads it as the folder says, or from tokenizer.json alone. Raises CheckpointError if transformers cannot."""
        return cls(own_tokenizer(tokenizer_file), tokenizer_file)

    @property
    def limit(self) -> int | None:
        """Tokens at which it cuts by default; None where it says none."""
        limit = int(min(self.inner.model_max_length, _LARGEST_LIMIT))
        return None if limit == _LARGEST_LIMIT else limit

    def encode(
        self, first: str, second: str, max_tokens: int | None, cut: str
    ) -> tuple[list[int], list[int] | None]:
        """Gives the ids and token types (None: it gives the model none) of a pair, cut to `max_tokens`."""
        truncation = (
            {} if max_tokens is None else {"truncation": cut.replace("-", "_"), "max_length": max_tokens}
        )
        encoded = self.inner(first, second, **truncation)
        return list(encoded["input_ids"]), encoded.get("token_type_ids")

    def encode_one(self, text: str, max_tokens: int) -> list[int]:
        """Gives the ids of a text, cut to `max_tokens`."""
        return list(self.inner(text, truncation=True, max_length=max_tokens)["input_ids"])

    def frame(self) -> "PairFrame":
        """Reads the frame off a pair of words. Raises CheckpointError for one that segments cannot say."""
        word = word_of(self.inner.backend_tokenizer)
        encoded = self.inner(word, word)
        sequences = encoded.sequence_ids(0)
        types = list(encoded.get("token_type_ids") or [0] * len(sequences))
        if 0 not in sequences or 1 not in sequences or sequences.index(0) > sequences.index(1):
            raise CheckpointError(
                f"{self.file} puts the second text of a pair before the first: not supported"
            )
        tokens = encoded.tokens()
        begin, end = sequences.index(0), _last(sequences, 0) + 1
        second, last = sequences.index(1), _last(sequences, 1) + 1
        # What stands between the texts belongs to the first as far as its tokens are of the first's type.
        edge = next((place for place in range(end, second) if types[place] != types[begin]), second)
        if types != [0] * edge + [types[second]] * (len(types) - edge) or types[second] not in (0, 1):
            raise CheckpointError(
                f"{self.file} gives the pair {tokens} the token types {types}: only 0 for the first text and 1 for the "
                "second can be exported"
            )
        keep: Literal["start", "end"] = "start" if self.inner.truncation_side == "right" else "end"
        prompt = Prompt(
            prefix=[
                *_special(tokens[:begin]),
                Segment(field=FIRST_FIELD, keep=keep),
                *_special(tokens[end:edge]),
            ],
            item=[*_special(tokens[edge:second]), Segment(item=True, keep=keep), *_special(tokens[last:])],
        )
        return PairFrame(prompt, types[second] == 1)


@dataclass(frozen=True, slots=True)
class PairFrame:
    """Prompt of a pair, and whether the second text has a token type of its own."""

    prompt: Prompt
    typed: bool

    @classmethod
    def bare(cls) -> Self:
        """Frames nothing: of a checkpoint without a tokenizer, whose users give whole sequences of ids."""
        return cls(Prompt(prefix=[Segment(field=FIRST_FIELD)], item=[Segment(item=True)]), typed=True)

    @classmethod
    def of(cls, tokenizer_file: Path | None) -> "PairFrame":
        """Reads the frame of a checkpoint's tokenizer, if it has one."""
        return cls.bare() if tokenizer_file is None else PairTokenizer.of(tokenizer_file).frame()


def inputs_of(model: nn.Module, *, typed: bool) -> tuple[str, ...]:
    """Lists the inputs of a graph of pairs: token types where the tokenizer has some and the model takes two.

    Raises CheckpointError for a model without a row for the type of the second text.
    """
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    rows = getattr(model.config, "type_vocab_size", None)
    if not typed or not takes or rows == 0:
        return ("input_ids", "attention_mask")
    if rows == 1:
        raise CheckpointError(
            "config.json: type_vocab_size is 1, and the tokenizer gives the second text type 1: set "
            "model_input_names in tokenizer_config.json to what the model was trained with"
        )
    return ("input_ids", "attention_mask", "token_type_ids")


def _special(names: list[str]) -> list[Segment]:
    return [Segment(special=names)] if names else []


def _last(sequences: list[int | None], which: int) -> int:
    return len(sequences) - 1 - sequences[::-1].index(which)
