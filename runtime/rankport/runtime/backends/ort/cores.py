"""Cores that this process may use, as ONNX Runtime counts them, and the quota of a container, which it does not."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_TOPOLOGY = Path("/sys/devices/system/cpu")


def count_cores() -> int:
    """Counts the cores that this process may run on: one that has two hyper-threads, once."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = set()
    for cpu in affinity(0) if affinity else range(os.cpu_count() or 1):
        try:
            cores.add((_TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def quota_cores(groups: Path = _GROUPS, own: Path = _OWN) -> int | None:
    """Counts the cores whose time this process has by the quota of its control groups, rounded up; None without one.

    A container sees all cores of its machine: as many threads would use up its time at once, and then be halted.
    """
    quotas = [quota for folder in _folders(groups, own) for quota in _quotas(folder)]
    return max(math.ceil(min(quotas)), 1) if quotas else None


def _folders(groups: Path, own: Path) -> Iterator[Path]:
    """Yields the folders of the groups that this process is in, and of those above.

    Where a container has folders of its own, those of the names that its machine knows are not there.
    """
    lines: list[str] = []
    with suppress(OSError):
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        controllers, _, name = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / controllers
        folder = root / name.lstrip("/")
        yield from (folder, *folder.parents[: len(folder.parts) - len(root.parts)])


def _quotas(folder: Path) -> Iterator[float]:
    """Yields the cores that a folder allows: of version 2 in `cpu.max`, of version 1 in two files."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        if quota != "max":
            yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us, period_us = (
            int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
        )
        if quota_us > 0:
            yield quota_us / period_us
