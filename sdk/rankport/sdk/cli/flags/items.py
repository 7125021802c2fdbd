"""Items of `rankport score`, and their wide features: from arguments, and from files of texts or JSON lines."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import typer

from rankport.protos.arguments import checked_run
from rankport.protos.types import Item, Key
from rankport.sdk.cli.flags.lines import filled_lines, holds_objects, json_of

_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class GivenItem:
    """An item, and its wide features by name."""

    item: Item
    features: Mapping[str, float]


def from_arguments(items: Sequence[str], keys: bool) -> list[GivenItem]:
    """Makes items of texts, or of keys of the token store."""
    return [GivenItem(Key(item) if keys else item, {}) for item in items]


def feature_columns(items: Sequence[GivenItem]) -> dict[str, list[float]] | None:
    """Makes a column of each wide feature, NaN where an item has none; None where no item has any."""
    names = dict.fromkeys(name for given in items for name in given.features)
    return {name: [given.features.get(name, math.nan) for given in items] for name in names} or None


def from_file(path: str, keys: bool, option: str = "--items") -> list[GivenItem]:
    """Reads the items of a file, one a line; "-" is standard input. Raises `typer.BadParameter` naming the line."""
    lines = filled_lines(path, option)
    if path == "-":
        return _parse(lines, keys, jsonl=holds_objects(lines), name="stdin")
    return _parse(lines, keys, jsonl=path.endswith(".jsonl"), name=path)


def _parse(lines: Iterable[str], keys: bool, *, jsonl: bool, name: str) -> list[GivenItem]:
    texts = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    if not jsonl:
        return from_arguments([text for _, text in texts], keys)
    return [_json_item(text, keys, f"{name}, line {number}") for number, text in texts]


def _json_item(line: str, keys: bool, where: str) -> GivenItem:
    try:
        content = json_of(line, where)
        features = content.pop("features", {}) if isinstance(content, dict) else {}
        return GivenItem(_item(content, keys, line, where), _numbers(features, where))
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{where}: {error}") from error


def _numbers(features: object, where: str) -> dict[str, float]:
    """Takes features by name; null is a missing number."""
    if isinstance(features, dict) and {type(number) for number in features.values()} <= {
        int,
        float,
        type(None),
    }:
        return {name: math.nan if number is None else float(number) for name, number in features.items()}
    raise typer.BadParameter(f'{where}: features are {features!r:.60}, give {{"name": number, …}}')


def _item(content: object, keys: bool, line: str, where: str) -> Item:
    match content:
        case str() as text:
            return Key(text) if keys else text
        case {"text": str() as text, **rest} if not rest:
            return text
        case {"key": str() as key, **rest} if not rest:
            return Key(key)
        case {"key": str() as key, "text": str() as text, **rest} if not rest:
            return Key(key, text)
        case {"token_ids": list() as ids, **rest} if not rest:
            return checked_run(ids, "token_ids")
        case {"embeddings": list() as rows, **rest} if not rest:
            return np.array(rows, np.float64)
    raise typer.BadParameter(
        f'{where}: {line[:_SHOWN_CHARACTERS]} is neither a text nor {{"text": …}}, {{"key": …}}, '
        f'{{"token_ids": …}} or {{"embeddings": …}}'
    )
