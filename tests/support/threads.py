"""Threads of this process, as the system has them."""

import threading
from pathlib import Path


def all_asleep() -> bool:
    """Whether every other thread waits for something: one that a busy machine keeps waiting for its turn does not."""
    own = str(threading.get_native_id())
    return all(_asleep(task) for task in Path("/proc/self/task").iterdir() if task.name != own)


def _asleep(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "S"
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return True
