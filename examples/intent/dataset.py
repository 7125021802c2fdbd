"""Texts and their intents: what someone asked a voice assistant for (snips), or a bank (banking77).

The files of snips lie beside the example that reads its slots.
"""

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]
BANKING = Path(__file__).parent / "data" / "banking77" / "banking77.csv.gz"
SNIPS = Path(__file__).parents[1] / "tagging" / "data" / "snips"


@dataclass(frozen=True, slots=True)
class IntentTexts:
    """Texts and the intent of each."""

    texts: list[str]
    intents: list[str]  # [texts]

    def __len__(self) -> int:
        return len(self.texts)


def read_snips(split: Split) -> IntentTexts:
    """Reads requests to a voice assistant, of 7 intents."""
    with gzip.open(SNIPS / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return IntentTexts([row["text"] for row in rows], [row["intent"] for row in rows])


def read_banking77(split: Split) -> IntentTexts:
    """Reads questions to a bank, of 77 intents that lie close together."""
    with gzip.open(BANKING, "rt", encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    return IntentTexts([row["text"] for row in rows], [row["intent"] for row in rows])
