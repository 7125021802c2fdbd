"""`RemoteEngine`: what engines in another process share, whatever they compute."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from rankport.protos.priorities import Priority, own_priority
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.remote.connection import Connection, OnPart
from rankport.runtime.kinds.remote.messages import Arrays, EngineOrder, nothing_counted
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.scheduling.queue.queue_limit import QueueLimit


class RemoteEngine:
    """An engine whose device another process drives."""

    def __init__(
        self, bundle: Bundle, config: EngineConfig, gpu: int, role: str = "", row_of: str = "run"
    ) -> None:
        """Has the process that drives a GPU, or the CPU, load the graphs. Raises as their load does there."""
        order = EngineOrder(str(bundle.path), bundle.manifest.fingerprint, role, row_of)
        address = config.engines_at[config.device_ids.index(gpu)]
        self._device = config.device
        self._connection = Connection(address, order, config.link_bytes)
        self._queue_limit = QueueLimit(config)  # with the numbers of the engine's own
        self._lock = threading.Lock()  # guards it

    @property
    def alive(self) -> bool:
        """False while the other process is away, and once it is closed or the engine stopped."""
        return self._connection.alive

    def counts(self) -> EngineCounts:
        """Returns the counters that the engine told last."""
        state = self._connection.state
        counts = nothing_counted(self._device) if state is None else state.counts
        return replace(counts, away=self._connection.away)

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where the engine's queue would refuse any request like those of late."""
        numbers = self._connection.posted()
        if numbers is None:
            return
        with self._lock:
            self._queue_limit.take(numbers)
            self._queue_limit.check_unread(timeout_s, priority)

    def stop(self, grace_s: float = 0.0) -> None:
        """Begins to close, and waits for nothing."""
        self._connection.stop()

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest."""
        self._connection.close(grace_s)

    def _submit(
        self,
        arrays: Arrays,
        tokens: int,
        timeout_s: float | None,
        spent_s: float,
        on_part: OnPart | None = None,
        **own: object,
    ) -> "Future[Columns]":
        """Sends a request. `own`: what its kind says beside what all have; `on_part` is told parts of its answer."""
        values: Mapping[str, Any] = {
            "timeout_s": timeout_s,
            "spent_s": spent_s,
            "priority": own_priority(),
            **own,
        }
        return self._connection.submit(Columns(values, arrays), tokens, on_part)
