"""Memory that this process shares with nobody."""

import os
from pathlib import Path


def private_bytes() -> int:
    """Counts the bytes that no file or other process has too."""
    fields = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    dirty = (line.split() for line in fields if line.startswith(("Private_Dirty", "Anonymous")))
    return max(int(words[1]) * 1024 for words in dirty)
