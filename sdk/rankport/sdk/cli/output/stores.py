"""Results of `rankport store`, for people and as JSON."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import be, counted
from rankport.runtime.store.comparing import Difference
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.copying import CopyProgress, CopyReport
from rankport.runtime.store.inspection import StoredEncoder
from rankport.runtime.store.lmdb_store.compaction import Compaction
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.writing import write_json, writing

_INTERVAL_S = 5.0  # between lines of progress
_NAMED_KEYS = 5


def write_inspection(location: str, encoders: Sequence[StoredEncoder], json_file: Path | None) -> None:
    """Writes what a store holds: a line for each encoder, or JSON."""
    if json_file is not None:
        write_json(json_file, {"store": location, "encoders": [_plain(encoder) for encoder in encoders]})
        return
    for line in map(_line, encoders):
        print(f"{location}: {line}")
    if not encoders:
        print(f"{location}: no tokens yet")


def _line(encoder: StoredEncoder) -> str:
    megabytes = encoder.items * encoder.item_bytes / 1e6
    facts = [
        "published" if encoder.published else "not published",
        f"[{encoder.tokens}, {encoder.hidden_size}] {encoder.dtype}",
        f"{counted(encoder.items, 'item', ',')}",
        f"{megabytes:,.1f} MB of tokens",
    ]
    if (checked := encoder.checked) is not None:
        if checked.oldest is not None:
            facts.append(f"written {checked.oldest:%Y-%m-%d %H:%M} to {checked.newest:%Y-%m-%d %H:%M} UTC")
        named = ", ".join(map(repr, checked.unreadable_keys[:_NAMED_KEYS]))
        fault = checked.problem or f"{checked.unreadable} cannot be read: {named}"
        facts.append("all read" if checked.passed else fault)
    return f"encoder {encoder.fingerprint}: {', '.join(facts)}"


def _plain(encoder: StoredEncoder) -> dict[str, object]:
    content = asdict(encoder)
    if encoder.checked is not None:
        content["checked"]["passed"] = encoder.checked.passed
        for name in ("oldest", "newest"):
            moment: datetime | None = content["checked"][name]
            content["checked"][name] = None if moment is None else moment.astimezone(UTC).isoformat()
    return content


def shared_encoder(first: TokenStore, second: TokenStore) -> str:
    """Returns the one encoder that both stores have. Raises `InvalidRequest` where it is none or several."""
    shared = sorted(set(first.fingerprints()) & set(second.fingerprints()))
    if len(shared) != 1:
        raise InvalidRequest(
            f"the stores share {len(shared)} encoders ({', '.join(shared) or 'none'}): say which with --encoder, and "
            "with --to-encoder where the second has another"
        )
    return shared[0]


def write_differences(found: Iterable[Difference], list_file: Path | None, json_file: Path | None) -> bool:
    """Writes the differences as they come, and counts them; says whether there are none."""
    counts: Counter[str] = Counter({"added": 0, "removed": 0, "changed": 0})
    with ExitStack() as opened:
        stream = None if list_file is None else _opened_list(list_file, opened)
        for difference in found:
            counts[difference.change] += 1
            if stream is not None:
                with writing(f"--list {list_file}"):
                    print(json.dumps(asdict(difference)), file=stream)
    if json_file is not None:
        write_json(json_file, dict(counts))
    else:
        said = ", ".join(f"{count:,} {change}" for change, count in counts.items())
        print(said, file=sys.stderr if str(list_file) == "-" else sys.stdout)
    return not counts.total()


def _opened_list(file: Path, opened: ExitStack) -> TextIO:
    if str(file) == "-":
        return sys.stdout
    with writing(f"--list {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        return opened.enter_context(file.open("w", encoding="utf-8"))


@contextmanager
def show_copy() -> Iterator[Callable[[CopyProgress], None]]:
    """Gives what tells now and then how far a copy is, its rate and the time left."""
    console = plain_console(stderr=True, soft_wrap=True)
    progress = _CopyLines(console)
    yield progress.show


class _CopyLines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage, self._begun_s, self._told_s, self._begun_items = "", 0.0, 0.0, 0

    def show(self, now: CopyProgress) -> None:
        moment_s = time.monotonic()
        if now.stage != self._stage or now.items < self._begun_items:
            self._stage, self._begun_s, self._told_s = now.stage, moment_s, moment_s
            self._begun_items = now.items
        if moment_s - self._told_s < _INTERVAL_S:
            return
        self._told_s = moment_s
        rate = (now.items - self._begun_items) / (moment_s - self._begun_s)
        left_s = (now.total - now.items) / rate if rate else float("inf")
        self._console.print(
            f"{now.items:,} of {counted(now.total, 'item', ',')} {now.stage}, {rate:,.0f} a second, "
            f"{left_s:.0f} s left",
            highlight=False,
        )


def write_copies(target: str, copies: Mapping[str, CopyReport], json_file: Path | None) -> None:
    """Writes what was copied: a line for each encoder, or JSON."""
    if json_file is not None:
        content = {"target": target, "encoders": {name: asdict(report) for name, report in copies.items()}}
        write_json(json_file, content)
        return
    for name, report in copies.items():
        print(
            f"{target}: encoder {name}: {report.written:,} written, {report.unchanged:,} were there, "
            f"{report.compared:,} compared and equal, {report.stored:,} stored, {report.seconds:.1f} s"
        )
        if report.unreadable:
            named = ", ".join(map(repr, report.unreadable_keys))
            print(
                f"FAILED: {counted(report.unreadable, 'value')} cannot be read and {be(report.unreadable)} left "
                f"out: {named}",
                file=sys.stderr,
            )


def write_compaction(location: str, compaction: Compaction, json_file: Path | None) -> None:
    """Writes what a compaction gave back."""
    if json_file is not None:
        write_json(json_file, {"store": location, **asdict(compaction)})
        return
    before, after = compaction.before_bytes / 1e6, compaction.after_bytes / 1e6
    print(f"{location}: {before:,.1f} MB before, {after:,.1f} MB now")
