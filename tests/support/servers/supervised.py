"""Servers of several processes, for tests; and what may not be left of one."""

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.processes.supervisor import Supervisor, Work

ONE_THREAD = EngineConfig(threads=1)


@contextmanager
def supervised(
    *bundles: object, config: ServerConfig | None = None, store: Path | None = None
) -> Iterator[Supervisor]:
    """Serves bundles by two fronts, or as the settings say, on a free port."""
    server = config or ServerConfig(port=0, fronts=2, grace_s=5.0)
    names = [str(bundle) for bundle in bundles]
    with Supervisor(Work(names, server, ONE_THREAD, None if store is None else str(store))) as running:
        yield running


def mapped_files(pid: int) -> set[str]:
    """Names of the files that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if len(line.split()) > 5}


def shared_memory() -> list[str]:
    """Names of what this program left in the folder of shared memory."""
    return [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith("rankport")]


def eventually(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    """Waits until something holds. Fails if it does not in time: long, but where the time is what is promised."""
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {within_s} s"
        threading.Event().wait(0.02)


def children(pid: int) -> dict[str, int]:
    """Numbers of the processes of a server, by their names."""
    of_threads = [each.read_text().split() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    return {_name(int(child)): int(child) for each in of_threads for child in each}


def _name(pid: int) -> str:
    """What the server calls a process of its own, the last word of its command."""
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").rpartition("\0")[2]


def halt(pid: int) -> None:
    """Halts a process. A signal reaches one thread, and the others go on until that one has its turn."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: set(_states(pid)) == {"T"})


def _states(pid: int) -> Iterator[str]:
    """Letters of what its threads are about."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # of one that has ended meanwhile
            yield stat.read_text().rpartition(")")[2].split()[0]


def restarts(server: Supervisor) -> dict[tuple[str, str], float]:
    """How often each process of a server was started again, by its name and why, as any front tells it."""
    with urllib.request.urlopen(f"http://{server.http_address}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {
        (sample.labels["process"], sample.labels["reason"]): sample.value
        for sample in samples
        if sample.name == "rankport_restarts_total"
    }
