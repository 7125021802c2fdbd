"""Result of `rankport score`, best first: a table for people, JSON for pipelines."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rankport.protos.types import Item, Key, ScoreResult

_SHOWN_CHARACTERS = 100
_SHOWN_MESSAGES = 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def print_json(items: Sequence[Item], result: ScoreResult) -> None:
    """Prints one object, every item with its message."""
    rows = [
        {
            "index": index,
            "item": _label(items[index]),
            "score": _number(result.scores[index]),
            "logits": [_number(logit) for logit in result.logits[index]],
            "status": result.status[index],
            "message": result.messages[index],
        }
        for index in _ranking(result)
    ]
    report = {
        "fingerprint": result.fingerprint,
        "score": {"kind": result.score_kind, "read_out": result.read_out},
        "usage": asdict(result.usage),
        "items": rows,
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


def print_table(items: Sequence[Item], result: ScoreResult) -> None:
    """Prints a line an item, the first messages under them, then what a score is and what it cost."""
    table = Table()
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    # The one column that gives way where the terminal is narrow; its cells are cut, not wrapped.
    table.add_column("item", max_width=_SHOWN_CHARACTERS)
    table.add_column("status", no_wrap=True)
    ranking = _ranking(result)
    for rank, index in enumerate(ranking, 1):
        known = result.scores[index] == result.scores[index]
        row = (str(rank) if known else "-", f"{result.scores[index]:.6f}" if known else "-")
        label = Text(_one_line(_label(items[index])), no_wrap=True, overflow="ellipsis")
        table.add_row(*row, label, str(result.status[index]), style=None if known else "yellow")
    console = Console()
    console.print(table)
    meaning = f"a score is a {result.score_kind}: {result.read_out}"
    for line in (*_messages(items, result, ranking), meaning, _cost(result)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _messages(items: Sequence[Item], result: ScoreResult, ranking: Sequence[int]) -> list[str]:
    told = [index for index in ranking if result.messages[index]]
    lines = []
    for index in told[:_SHOWN_MESSAGES]:
        label = _one_line(_label(items[index]))
        short = label if len(label) <= _SHOWN_CHARACTERS else f"{label[:_SHOWN_CHARACTERS]}…"
        lines.append(f"{result.status[index]} {short}: {result.messages[index]}")
    more = len(told) - len(lines)
    return [*lines, f"… and {more} more: --json has them all"] if more else lines


def _cost(result: ScoreResult) -> str:
    usage = result.usage
    return (
        f"prefix {usage.prefix_tokens_cached} tokens cached, {usage.prefix_tokens_computed} computed; items "
        f"{usage.item_tokens} tokens; tokenize {usage.tokenize_s * 1e3:.1f} ms, queue {usage.queue_s * 1e3:.1f} ms, "
        f"compute {usage.compute_s * 1e3:.1f} ms"
    )


def _ranking(result: ScoreResult) -> list[int]:
    """Orders the indices of the items, best first, those without a score last."""
    return [int(index) for index in np.argsort(-result.scores, kind="stable")]  # NaN sorts last


def _label(item: Item) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, Key):
        return item.id
    return f"{'x'.join(map(str, np.shape(item)))} {'token ids' if np.ndim(item) == 1 else 'embeddings'}"


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _number(value: Any) -> float | None:
    return None if value != value else float(value)  # NaN is no JSON
