"""Reads the items of a trie: JSON lines of a key and the tokens of its sequence, by name or by id."""

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankport.protos.arguments import checked_text
from rankport.protos.errors import InvalidRequest
from rankport.protos.files.json_text import json_of_text
from rankport.protos.reasons import reason_of
from rankport.protos.wording import counted
from rankport.runtime.kinds.generator.tries.trie import TokenTrie


def trie_of_file(file: Path, token_id: Callable[[str], int | None], vocabulary: int) -> TokenTrie:
    """Makes a trie of lines `{"key": "movie-1", "tokens": ["<a_12>", "<b_7>"]}`, or "ids" in the place of "tokens".

    Raises `InvalidRequest` naming the first line at fault: what is no such object, a token that there is not, a key
    given twice, a sequence of another length.
    """
    keys, flat, levels = dict[str, int](), array("q"), 0
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        key, ids = _item(line, where, token_id, vocabulary)
        if key in keys:
            raise InvalidRequest(f"{where}: key {key!r:.60} is given twice, first in line {keys[key]}")
        levels = levels or len(ids)
        if len(ids) != levels:
            raise InvalidRequest(
                f"{where}: {counted(len(ids), 'token')}, and {levels} in line {next(iter(keys.values()))}: "
                "sequences of a trie "
                "are of one length"
            )
        keys[key] = number
        flat.extend(ids)
    if not keys:
        raise InvalidRequest(f"{file} has no items: give a line for each")
    return TokenTrie.of(list(keys), np.frombuffer(flat, np.int64).reshape(len(keys), levels), vocabulary)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {reason_of(error)}") from error


def _item(
    line: bytes, where: str, token_id: Callable[[str], int | None], vocabulary: int
) -> tuple[str, list[int]]:
    try:
        said: Any = json_of_text(line)
    except ValueError as error:
        raise InvalidRequest(f"{where}: no JSON: {error}") from error
    if not isinstance(said, dict) or said.keys() not in ({"key", "tokens"}, {"key", "ids"}):
        raise InvalidRequest(
            f'{where}: give {{"key": ..., "tokens": [...]}}, or "ids" in the place of "tokens"'
        )
    key, given = said["key"], said.get("tokens", said.get("ids"))
    if not isinstance(key, str) or not key or not isinstance(given, list) or not given:
        raise InvalidRequest(f"{where}: a key is a text, and a sequence a list of at least one token")
    checked_text(key, f"{where}, key")
    return key, [_id(token, where, key, token_id, vocabulary) for token in given] if "tokens" in said else [
        _checked(token, where, key, vocabulary) for token in given
    ]


def _id(token: object, where: str, key: str, token_id: Callable[[str], int | None], vocabulary: int) -> int:
    found = token_id(token) if isinstance(token, str) else None
    if found is None:
        raise InvalidRequest(f"{where}, key {key!r:.60}: {token!r:.60} is no token of the vocabulary")
    return _checked(found, where, key, vocabulary)


def _checked(token: object, where: str, key: str, vocabulary: int) -> int:
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocabulary:
        raise InvalidRequest(
            f"{where}, key {key!r:.60}: {token!r:.60} is no token: they are 0 to {vocabulary - 1}"
        )
    return token
