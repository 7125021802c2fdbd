"""Counters that one thread writes and any thread reads."""

import sys
from types import FrameType
from typing import Any

from rankport.runtime.scheduling.counts import Queue, WorkerCounts
from rankport.runtime.scheduling.work import PassSize
from support.engines import Clock


def test_time_in_passes_is_counted_once_wherever_in_a_snapshot_a_pass_ends() -> None:
    read_s = []
    for place in range(1, 40):
        clock = Clock()
        counts = WorkerCounts(clock)
        begun = [counts.begins(PassSize("score", 1, 1, 1), 1)]
        clock.now_s = 10.0
        lines = iter(range(1, place))

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            """Has the pass end before a certain line of the snapshot."""
            if frame.f_code.co_name == "snapshot" and event == "line" and begun and next(lines, None) is None:  # noqa: B023
                counts.ended(begun.pop(), failed=False)  # noqa: B023
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            read_s.append(counts.snapshot("cpu", Queue(0, 0, 0)).busy_s)
        finally:
            sys.settrace(before)
    assert set(read_s) == {10.0}
