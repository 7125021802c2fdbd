"""Runs of tokens as columns: whatever is joined, cut and sorted, each run keeps its tokens and its embeddings."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankport.runtime.tokens import EMBEDDED, TableRows, TokenRuns
from support.effort import scale


@dataclass(frozen=True)
class Part:
    """Runs of one request: of each token whether an embedding stands there, sent or in a table's row."""

    runs: list[list[str]]
    has_table: bool
    has_seconds: bool


tokens = st.sampled_from(["id", "id", "sent", "row"])
parts = st.builds(
    Part, st.lists(st.lists(tokens, min_size=1, max_size=5), max_size=5), st.booleans(), st.booleans()
)


class Naive:
    """Each run by itself: its tokens, an id, ("sent", value) or ("row", number), and where a second text begins."""

    def __init__(self) -> None:
        self.next = 100
        self.runs: list[tuple[list[object], int]] = []

    def columns(self, part: Part) -> TokenRuns:
        """Makes a part's columns, and notes what its runs are."""
        ids, lengths, sent, rows, seconds = [], [], [], [], []
        for run in part.runs:
            told: list[object] = []
            for kind in run:
                self.next += 1
                in_table = kind == "row" and part.has_table
                if kind == "id":
                    ids.append(self.next)
                    told.append(self.next)
                    continue
                ids.append(EMBEDDED)
                rows.append(self.next if in_table else -1)
                if not in_table:
                    sent.append([float(self.next)])
                told.append(("row" if in_table else "sent", self.next))
            second = self.next % (len(run) + 1) if part.has_seconds else len(run)
            lengths.append(len(run))
            seconds.append(second)
            self.runs.append((told, second))
        blocks = (np.array(sent, np.float32),) if sent else ()
        table = TableRows(np.array(rows, np.int64), ()) if part.has_table and rows else None
        made = TokenRuns.of_lengths(np.array(ids, np.int64), lengths, blocks, table)
        given_seconds = np.array(seconds, np.int64) if part.has_seconds else None
        return TokenRuns(made.ids, made.offsets, made.embedded, made.blocks, made.table, given_seconds)


def told(runs: TokenRuns, some: bool) -> list[tuple[list[object], int]]:
    """Reads columns as `Naive` keeps them; with `some` seconds a run without one has it at its end."""
    rows = runs.rows(0) if runs.embedded is not None else np.empty(0, np.int64)
    in_table = np.zeros(len(rows), bool) if runs.table is None else runs.table.rows >= 0
    sent: NDArray[np.floating] = np.concatenate([*runs.blocks, np.empty((0, 1))])
    embedded = iter(zip(rows.tolist(), in_table.tolist(), strict=True))
    found = []
    for run in range(len(runs)):
        read: list[object] = []
        for token in runs.ids[runs.offsets[run] : runs.offsets[run + 1]].tolist():
            if token != EMBEDDED:
                read.append(token)
                continue
            row, lies_there = next(embedded)
            read.append(("row", row) if lies_there else ("sent", int(sent[row, 0])))
        second = len(read) if runs.seconds is None else int(runs.seconds[run])
        found.append((read, second))
    assert next(embedded, None) is None
    assert runs.sent == (~in_table).sum()
    assert some or runs.seconds is None
    return found


@settings(max_examples=scale(60), deadline=None)
@given(st.lists(parts, min_size=1, max_size=4), st.data())
def test_runs_stay_what_they_are_joined_cut_and_sorted(given_parts: list[Part], data: st.DataObject) -> None:
    naive = Naive()
    joined = TokenRuns.join([naive.columns(part) for part in given_parts])
    some = any(part.has_seconds for part in given_parts)
    count = len(naive.runs)
    assert told(joined, some) == naive.runs
    assert joined.lengths.tolist() == [len(run) for run, _ in naive.runs]
    order = data.draw(st.permutations(range(count)))
    taken = joined.take(np.array(order, np.int64))
    wanted = [naive.runs[place] for place in order]
    assert told(taken, some) == wanted
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    assert told(taken.part(start, stop), some) == wanted[start:stop]
    again = TokenRuns.join([taken.part(start, stop), taken.part(0, start), taken.part(stop, count)])
    assert told(again, some) == wanted[start:stop] + wanted[:start] + wanted[stop:]
