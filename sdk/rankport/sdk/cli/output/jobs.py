"""Offline jobs as `rankport jobs` writes them: a line each, a bar while one is watched, or JSON."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rankport.protos.jobs import Job, JobState
from rankport.protos.wording import counted
from rankport.runtime.jobs.encode_report import EncodeProgress
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.encoding.encode import show_progress
from rankport.sdk.cli.output.values import one_line
from rankport.sdk.cli.output.writing import write_json, writing

_SHOWN_BAD_ROWS = 10


def write_jobs(jobs: Iterable[Job], as_json: bool) -> None:
    """Writes jobs to standard output."""
    with writing("standard output"):
        if as_json:
            write_json(Path("-"), [asdict(job) for job in jobs])
            return
        for job in jobs:
            print(line_of(job))


def write_job(job: Job, as_json: bool) -> None:
    """Writes a job, with its first bad rows, to standard output."""
    with writing("standard output"):
        if as_json:
            write_json(Path("-"), asdict(job))
            return
        print(line_of(job))
        for row in job.first_bad_rows[:_SHOWN_BAD_ROWS]:
            name = f" of {row.file}" if row.file else ""
            name += f" ({row.id})" if row.id is not None else ""
            print(one_line(f"bad row {row.line}{name}: {row.reason}"))


def show_until_ended(states: Iterable[Job], as_json: bool) -> bool:
    """Shows a job as it goes on, and what became of it. True if it is done."""
    last: Job | None = None
    if as_json:
        for last in states:
            with writing("standard output"):
                print(json.dumps(asdict(last)), flush=True)
    else:
        last = _with_a_bar(states)
        if last is not None:
            write_job(last, as_json=False)
    return last is not None and last.state is JobState.DONE


def line_of(job: Job) -> str:
    """Tells a job in a line."""
    counts = job.counts
    of_total = f" of {job.total_rows}" if job.total_rows and not job.state.ended else ""
    facts = [job.state.value]
    if job.runs:
        rows = f"{counts.rows}{of_total} rows" if of_total else counted(counts.rows, "row")
        facts.append(f"{rows}: {counts.encoded} encoded, {counts.unchanged} unchanged, {counts.bad_rows} bad")
        seconds = max(0.0, (job.ended_s or time.time()) - job.started_s)  # a clock may be set back
        facts.append(f"{seconds:.1f} s" + (f", run {job.runs}" if job.runs > 1 else ""))
    facts.append(f"{job.task.items} to {job.task.store or 'the store of the server'}")
    if job.reason:
        facts.append(job.reason)
    return one_line(f"{job.id}: {'; '.join(facts)}")


def _with_a_bar(states: Iterable[Job]) -> Job | None:
    states = iter(states)
    last = next(states, None)
    while last is not None and not last.total_rows and not last.state.ended:
        last = next(states, last)
    if last is None or last.state.ended:
        return last
    with show_progress(plain_console(stderr=True), last.total_rows) as on_progress:
        for last in states:
            counts = last.counts
            on_progress(EncodeProgress(counts.encoded, counts.unchanged, counts.bad_rows, counts.deleted))
    return last
