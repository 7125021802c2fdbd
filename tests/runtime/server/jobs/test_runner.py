"""The thread that runs jobs, where it meets a stop."""

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.server.jobs.runner import JobRunner
from rankport.runtime.server.jobs.work import Places
from rankport.runtime.server.models import ServedModels
from rankport.runtime.server.submitter import Submitter
from support.servers.deterministic_models import DeterministicEncoder


def test_a_stop_that_comes_while_the_thread_looks_for_one_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, submitter = DeterministicEncoder(), Submitter(1)
    made: list[threading.Event] = []
    runners: list[JobRunner] = []
    closed = threading.Event()

    def close() -> None:
        runners[0].close()
        closed.set()

    closing = threading.Thread(target=close, daemon=True)

    class Event(threading.Event):
        """Event that says "not set", and before the thread goes on the runner is closed."""

        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def is_set(self) -> bool:
            before = super().is_set()
            if threading.current_thread().name == "rankport-jobs" and closing.ident is None:
                closing.start()
                for event in made[:2]:  # those of the runner: that something is to be run, and that it stops
                    assert event.wait(20.0)
            return before

    with monkeypatch.context() as patched:
        patched.setattr(threading, "Event", Event)
        book = JobBook(str(tmp_path / "jobs"))
        models = ServedModels({"encoder": cast(Any, encoder)})
        runners.append(JobRunner(book, Places(JobRoots([str(tmp_path)]), None), models, submitter))
    runners[0].start(asyncio.new_event_loop())
    assert closed.wait(5.0)
    submitter.close()
    encoder.close()
