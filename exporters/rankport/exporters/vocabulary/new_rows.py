"""The appended rows of an embedding table, and what their tokens are called.

Owns the three ways to say it: a count, a first id, or the names in tokenizer.json.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import CheckpointError, InvalidRequest

# A level's name and a code, as semantic-ID tokens are written: <a_12>, <|sid_0_255|>, [L2-7].
_CODE = re.compile(r"^[<\[({|]*(?P<level>[A-Za-z][A-Za-z0-9_-]*?)[_-]?(?P<code>\d+)[>\])}|]*$")
# Names of places that a tokenizer keeps free, as <|reserved_special_token_12|>, of Llama 3 right before new ones.
_KEPT_FREE = re.compile(r"reserved|unused|dummy|placeholder|extra|special|control", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NewRows:
    """A run of appended rows of a table of `total` rows; the pretrained rows are those before it."""

    first: int
    count: int
    total: int
    names: tuple[str | None, ...]  # [count] tokens in id order, None without a tokenizer

    def __post_init__(self) -> None:
        if self.first < 2 or self.count < 2 or self.first + self.count > self.total:
            raise InvalidRequest(
                f"new rows {self.first} to {self.first + self.count - 1} do not lie behind at least 2 pretrained "
                f"rows of a table of {self.total}, or are fewer than 2: check --first-new and --new-tokens"
            )

    @property
    def levels(self) -> tuple[str, ...] | None:
        """The level that each name tells, <a_12> is of level a; None if a name tells none. [count]"""
        matches = [_CODE.match(name) if name is not None else None for name in self.names]
        names = [match["level"] for match in matches if match is not None]
        return tuple(names) if len(names) == self.count else None


def resolve_new_rows(
    checkpoint: Path, total: int, *, new_tokens: int | None = None, first_new: int | None = None
) -> NewRows:
    """Finds the new rows of a table of `total` rows.

    `new_tokens` alone: the last ones of the table; `first_new` alone: from there on; both: that many from there;
    neither: the last run of added tokens in tokenizer.json that are written as semantic ids are, <a_12>.
    Raises InvalidRequest if they do not fit, CheckpointError if nothing tells.
    """
    names = token_names(checkpoint)
    if new_tokens is None and first_new is None:
        first, count = _named_run(checkpoint, names, total)
    elif first_new is None:
        assert new_tokens is not None
        first, count = total - new_tokens, new_tokens
    else:
        first, count = first_new, total - first_new if new_tokens is None else new_tokens
    return NewRows(first, count, total, tuple(names.get(first + row) for row in range(count)))


def token_names(checkpoint: Path) -> dict[int, str]:
    """Reads tokens by id, from tokenizer.json; empty without one. CheckpointError if it cannot be read."""
    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, dict):
            names = {int(row): str(token) for token, row in vocabulary.items()}
        else:  # a unigram model lists [piece, score]
            names = {row: str(piece[0]) for row, piece in enumerate(vocabulary)}
        names |= {int(token["id"]): str(token["content"]) for token in content.get("added_tokens", ())}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"{file} is no tokenizer that can be read: {error!r}") from error
    return names


def _named_run(checkpoint: Path, names: dict[int, str], total: int) -> tuple[int, int]:
    """Finds first id and length of the last run of consecutive ids with names of semantic-ID form, added ones only."""
    added = _added_ids(checkpoint)
    coded = sorted(row for row in added if row < total and _is_code(names[row]))
    if not coded:
        raise CheckpointError(
            f"nothing in {str(checkpoint)!r} tells which rows are new (no added tokens like <a_12> in "
            "tokenizer.json): give --new-tokens or --first-new"
        )
    first = coded[-1]
    for row in reversed(coded[:-1]):
        if row != first - 1:
            break
        first = row
    return first, coded[-1] - first + 1


def _is_code(name: str) -> bool:
    match = _CODE.match(name)
    return match is not None and _KEPT_FREE.search(match["level"]) is None


def _added_ids(checkpoint: Path) -> Sequence[int]:
    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        return ()
    content = json.loads(file.read_text(encoding="utf-8"))
    return [int(token["id"]) for token in content.get("added_tokens", ())]
