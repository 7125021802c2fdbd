"""Paired text and semantic ids: what new rows are grounded on.

File format: JSONL, one {"text": "...", "tokens": ["<a_12>", "<b_7>"]} a line, no other fields; blank lines are skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest
from rankport.protos.files.json_text import json_of_text
from rankport.protos.reasons import reason_of
from rankport.protos.wording import counted


@dataclass(frozen=True, slots=True)
class Pair:
    """One text and the tokens that stand for the same thing."""

    text: str
    tokens: tuple[str, ...]


def _lines(file: Path) -> list[str]:
    """Reads lines, not cut at U+2028 and others that text may have; a mark of UTF-8 at the start is no text."""
    text = file.read_text(encoding="utf-8-sig")
    return text.removesuffix("\n").split("\n") if text else []


def read_pairs(file: Path) -> list[Pair]:
    """Reads all pairs of a file. InvalidRequest naming the line and what is wrong with it."""
    try:
        lines = _lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--pairs {file} cannot be read: {reason_of(error)}") from error
    pairs = [_pair(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(pairs) < 2:
        raise InvalidRequest(
            f"--pairs {file} holds {counted(len(pairs), 'pair')}: at least 2 are needed, one to hold out"
        )
    return pairs


def read_tokens(file: Path) -> list[str]:
    """Reads new tokens, one a line, in the order of the ids they get. InvalidRequest for an empty or repeated one."""
    try:
        tokens = _lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--add-tokens {file} cannot be read: {reason_of(error)}") from error
    for number, token in enumerate(tokens, 1):
        if not token or token != token.strip():
            raise InvalidRequest(f"--add-tokens {file} line {number}: {token!r} is empty or has outer spaces")
    repeated = _first_repeated(tokens)
    if repeated is not None:
        raise InvalidRequest(f"--add-tokens {file} names {repeated!r} twice")
    if len(tokens) < 2:
        raise InvalidRequest(
            f"--add-tokens {file} names {counted(len(tokens), 'token')}: at least 2 are needed"
        )
    return tokens


def _pair(file: Path, number: int, line: str) -> Pair:
    where = f"--pairs {file} line {number}"
    try:
        content = json_of_text(line)
    except ValueError as error:
        raise InvalidRequest(f"{where} is not JSON: {error}") from error
    if not isinstance(content, dict) or set(content) != {"text", "tokens"}:
        raise InvalidRequest(f'{where}: must be {{"text": ..., "tokens": [...]}} and nothing else')
    text, tokens = content["text"], content["tokens"]
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(f"{where}: text is {text!r}, must be a string with words")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise InvalidRequest(f"{where}: tokens is {tokens!r}, must be a list of new tokens")
    return Pair(text, tuple(tokens))


def _first_repeated(values: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
