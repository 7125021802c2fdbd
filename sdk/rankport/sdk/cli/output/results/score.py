"""Result of `rankport score`, best first: a table for people, CSV and JSON for pipelines."""

import csv
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.table import Table
from rich.text import Text

from rankport.protos.ranking import Ranking
from rankport.protos.tables import TableColumn
from rankport.protos.wording import counted
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.values import csv_values, number, one_line, write_out

Format = Literal["table", "csv", "json"]

_SHOWN_CHARACTERS = 100
_SHOWN_MESSAGES = 10


def write_ranking(ranking: Ranking, form: Format, file: Path | None) -> None:
    """Writes a ranking with its items to a file, which is replaced, or to standard output."""
    write_out(partial(_WRITERS[form], ranking), file)


def write_json(ranking: Ranking, stream: TextIO) -> None:
    """Writes one object, every item with its logits and message."""
    columns = ranking.columns()
    values = {name: _json_values(column) for name, column in columns.items()}
    values["logits"] = [[number(logit) for logit in row] for row in ranking.logits]
    names = ("rank", "index", "item", "score", "logits", "status", "message")
    report = {
        "fingerprint": ranking.fingerprint,
        "score": {"kind": ranking.score_kind, "read_out": ranking.read_out},
        "usage": asdict(ranking.usage),
        "items": [{name: values[name][row] for name in names} for row in range(len(ranking))],
    }
    stream.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def write_csv(ranking: Ranking, stream: TextIO) -> None:
    """Writes a line an item, headed by the names of the columns; what is missing is empty."""
    columns = ranking.columns()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(csv_values(column) for column in columns.values()), strict=True))


def write_table(ranking: Ranking, stream: TextIO) -> None:
    """Writes a line an item, the first messages under them, then what a score is and what it cost."""
    table = Table()
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    # The one column that gives way where the terminal is narrow; its cells are cut, not wrapped.
    table.add_column("item", max_width=_SHOWN_CHARACTERS)
    table.add_column("status", no_wrap=True)
    names = _names(ranking)
    for row, rank in enumerate(ranking.ranks):
        cells = ("-", "-") if rank is None else (str(rank), f"{ranking.scores[row]:.6f}")
        label = Text(one_line(names[row]), no_wrap=True, overflow="ellipsis")
        table.add_row(*cells, label, str(ranking.status[row]), style="yellow" if rank is None else None)
    console = plain_console(file=stream)
    console.print(table)
    meaning = f"a score is a {ranking.score_kind}: {ranking.read_out}"
    for line in (*_messages(ranking, names), meaning, _cost(ranking)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


_WRITERS = {"table": write_table, "csv": write_csv, "json": write_json}


def _names(ranking: Ranking) -> list[str]:
    return [str(name) for name in ranking.columns()["item"].values]


def _messages(ranking: Ranking, names: list[str]) -> list[str]:
    told = [row for row, message in enumerate(ranking.messages) if message]
    lines = []
    for row in told[:_SHOWN_MESSAGES]:
        label = one_line(names[row])
        short = label if len(label) <= _SHOWN_CHARACTERS else f"{label[:_SHOWN_CHARACTERS]}…"
        lines.append(f"{ranking.status[row]} {short}: {ranking.messages[row]}")
    more = len(told) - len(lines)
    return [*lines, f"… and {more} more: --format json has them all"] if more else lines


def _cost(ranking: Ranking) -> str:
    usage = ranking.usage
    return (
        f"prefix {counted(usage.prefix_tokens_cached, 'token')} cached, {usage.prefix_tokens_computed} computed; items "
        f"{counted(usage.item_tokens, 'token')}; tokenize {usage.tokenize_s * 1e3:.1f} ms, queue "
        f"{usage.queue_s * 1e3:.1f} ms, "
        f"compute {usage.compute_s * 1e3:.1f} ms"
    )


def _json_values(column: TableColumn) -> list[Any]:
    if column.type == "number":
        return [number(value) for value in column.values]
    if column.type == "integer":
        return [int(value) for value in column.values]
    return list(column.values)
