"""Result of `rankport classify`, in the order of the texts: a table for people, CSV and JSON for pipelines."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TextIO

from rich.table import Table
from rich.text import Text

from rankport.protos.classes import ClassifyResult, ClassText
from rankport.protos.wording import counted
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.values import csv_values, number, one_line, write_out

Format = Literal["table", "csv", "json"]

_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Classified:
    """A result beside its texts."""

    result: ClassifyResult
    texts: Sequence[ClassText]
    threshold: float | None  # of labels that do not exclude each other; None: the likeliest label alone

    @property
    def names(self) -> list[str]:
        """Texts as they are written; a pair by its two texts."""
        return [" | ".join(map(str, text)) if isinstance(text, tuple) else str(text) for text in self.texts]

    @property
    def labels(self) -> list[str]:
        """Labels of each text: the likeliest, or those above the threshold, joined by commas."""
        if self.threshold is None:
            return list(self.result.best)
        return [", ".join(names) for names in self.result.above(self.threshold)]


def write_classes(classified: Classified, form: Format, file: Path | None) -> None:
    """Writes a result to a file, which is replaced, or to standard output."""
    write_out(partial(_WRITERS[form], classified), file)


def _write_json(classified: Classified, stream: TextIO) -> None:
    """Writes one object, every text with the probabilities of all labels."""
    result = classified.result
    rows = zip(
        classified.names, classified.labels, result.probabilities, result.status, result.messages, strict=True
    )
    report = {
        "fingerprint": result.fingerprint,
        "exclusive": result.exclusive,
        "usage": asdict(result.usage),
        "texts": [
            {
                "index": index,
                "text": text,
                "label": label,
                "probabilities": dict(zip(result.labels, map(number, row), strict=True)),
                "status": str(status),
                "message": message,
            }
            for index, (text, label, row, status, message) in enumerate(rows)
        ],
    }
    stream.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _write_csv(classified: Classified, stream: TextIO) -> None:
    """Writes a line a text, headed by the names of the columns; what is missing is empty."""
    columns = {name: csv_values(column) for name, column in classified.result.columns().items()}
    columns.pop("probabilities")  # a list is no cell: JSON has them all
    columns["label"] = list(classified.labels)
    columns = {"index": columns.pop("index"), "text": list(classified.names), **columns}
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def _write_table(classified: Classified, stream: TextIO) -> None:
    """Writes a line a text, then the messages and what it cost."""
    result, table = classified.result, Table()
    table.add_column("label", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("text", max_width=_SHOWN_CHARACTERS)
    table.add_column("status", no_wrap=True)
    rows = zip(classified.labels, result.best_probabilities, classified.names, result.status, strict=True)
    for label, probability, name, status in rows:
        shown = "-" if probability != probability else f"{probability:.4f}"
        text = Text(one_line(name), no_wrap=True, overflow="ellipsis")
        table.add_row(one_line(label) or "-", shown, text, str(status))
    console = plain_console(file=stream)
    console.print(table)
    told = [f"{classified.names[row]}: {message}" for row, message in enumerate(result.messages) if message]
    means = "labels exclude each other" if result.exclusive else "each label stands by itself"
    usage = result.usage
    cost = (
        f"{usage.prefix_tokens_computed + usage.item_tokens} tokens; tokenize {usage.tokenize_s * 1e3:.1f} ms, queue "
        f"{usage.queue_s * 1e3:.1f} ms, compute {usage.compute_s * 1e3:.1f} ms"
    )
    for line in (*map(one_line, told), f"{counted(len(result.labels), 'label')}: {means}", cost):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


_WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json}
