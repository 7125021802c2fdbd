"""Texts as transformers' own tokenizer reads them: ids, characters and words of tokens, and the units that follow.

Owns an independent reading: it shares no code with the runtime's. White space at the ends of a place is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.exporters.options.prompts import word_of

Text = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class OwnUnit:
    """A word or a token that has a label."""

    token: int  # that speaks for it
    start: int  # in characters
    end: int
    word: int  # that it is of


@dataclass(frozen=True, slots=True)
class OwnReading:
    """A text as transformers reads it, without a frame."""

    ids: list[int]
    units: list[OwnUnit]
    characters: str  # that places are in: of words those joined by one space


class OwnersTokenizer:
    """The tokenizer of a checkpoint folder, loaded by transformers."""

    def __init__(self, file: Path) -> None:
        """Loads it as its owner does: by the folder's word, or from tokenizer.json alone where there is none."""
        self.inner: Any = own_tokenizer(file)

    def frame(self) -> tuple[list[int], list[int]]:
        """Gives the special tokens that it puts before and after a text."""
        word = word_of(self.inner.backend_tokenizer)
        bare, framed = (list(self.inner(word, add_special_tokens=own)["input_ids"]) for own in (False, True))
        start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        return framed[:start], framed[start + len(bare) :]

    def read(self, text: Text, *, by_word: bool) -> OwnReading:
        """Reads a text, or a list of words as `is_split_into_words` does."""
        given = not isinstance(text, str)
        with quiet():  # of texts that are longer than it would cut them to
            encoding = self.inner(
                list(text) if given else text,
                is_split_into_words=given,
                add_special_tokens=False,
                truncation=False,
                return_offsets_mapping=True,
            )
        characters = " ".join(text) if given else str(text)
        words = encoding.word_ids()
        # A space that the tokenizer put before a text or word stands at its first character.
        places = [(0, 1) if end == 0 else (start, end) for start, end in encoding["offset_mapping"]]
        if given:
            begins = [len(" ".join([*text[:word], ""])) for word in range(len(text))]
            places = [
                (begins[word] + start, begins[word] + end)
                for word, (start, end) in zip(words, places, strict=True)
            ]
        groups = _by_word(words) if by_word else [[token] for token in range(len(words))]
        units = []
        for group in groups:
            start, end = min(places[token][0] for token in group), max(places[token][1] for token in group)
            word = words[group[0]]
            if given and by_word:
                start, end = begins[word], begins[word] + len(text[word])
            units.append(_trimmed(group[0], start, end, -1 if word is None else word, characters))
        return OwnReading(list(encoding["input_ids"]), [unit for unit in units if unit], characters)


def _by_word(words: Sequence[int | None]) -> list[list[int]]:
    """Groups consecutive tokens of one word; a token of none is alone. [words] of token places"""
    groups: list[list[int]] = []
    for token, word in enumerate(words):
        if token and word is not None and word == words[token - 1]:
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _trimmed(token: int, start: int, end: int, word: int, characters: str) -> OwnUnit | None:
    part = characters[start:end]
    inner = part.strip()
    if not inner:
        return None
    start += len(part) - len(part.lstrip())
    return OwnUnit(token, start, start + len(inner), word)
