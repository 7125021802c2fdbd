"""The sets of words and their tags in `data`: what someone asked a voice assistant for, and skills in job postings."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DATA = Path(__file__).parent / "data"
Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class TaggedTexts:
    """Texts as words, a BIO tag a word."""

    words: list[list[str]]  # [texts]
    tags: list[list[str]]  # [texts]

    @property
    def names(self) -> tuple[str, ...]:
        """Tags that occur, `O` first."""
        return ("O", *sorted({tag for tags in self.tags for tag in tags} - {"O"}))

    def first(self, count: int) -> "TaggedTexts":
        """Takes the first texts."""
        return TaggedTexts(self.words[:count], self.tags[:count])

    def __len__(self) -> int:
        return len(self.words)


def read_snips(split: Split) -> TaggedTexts:
    """Reads requests to a voice assistant with 39 kinds of slots (snips)."""
    rows = _rows(DATA / "snips" / f"{split}.jsonl.gz")
    return TaggedTexts([row["tokens"] for row in rows], [row["tags"] for row in rows])


def read_skillspan(split: Split) -> TaggedTexts:
    """Reads sentences of job postings with their skills (SkillSpan's layer of that name)."""
    rows = _rows(DATA / "skillspan" / f"{split}.jsonl.gz")
    tags = [[tag if tag == "O" else f"{tag[0]}-skill" for tag in row["skill"]] for row in rows]
    return TaggedTexts([row["tokens"] for row in rows], tags)


Span = tuple[int, int, str]  # first word, behind the last, label


def spans_of(tags: Sequence[str]) -> set[Span]:
    """Joins BIO tags to spans; an I that goes on nothing begins one."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        kind = tag[2:]
        if tag.startswith("I-") and spans and spans[-1][1] == place and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], place + 1, kind)
        elif tag != "O":
            spans.append((place, place + 1, kind))
    return set(spans)


def span_f1(expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    """Computes the F1 of exact spans with their label, over all texts."""
    pairs = [(spans_of(own), spans_of(other)) for own, other in zip(expected, found, strict=True)]
    hits = sum(len(own & other) for own, other in pairs)
    total = sum(len(own) + len(other) for own, other in pairs)
    return 2 * hits / total if total else 1.0


def _rows(file: Path) -> list[dict[str, list[str]]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
