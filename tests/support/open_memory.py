"""Shared memory that this process has open."""

import os
from pathlib import Path


def shared_memory_open() -> set[str]:
    """Lists the descriptors of memory without a name that the product made."""
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if "memfd:rankport" in _target(fd)}


def _target(fd: Path) -> str:
    try:
        return os.readlink(fd)
    except FileNotFoundError:  # of the listing itself
        return ""
