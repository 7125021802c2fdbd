"""Runs a command and watches its memory: what is its own, and what it maps from files."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Usage:
    """Peaks of one process while it ran, or its memory at one moment."""

    private_mb: float  # anonymous: heap, packed weights, activations
    resident_mb: float  # that, and what of the files it maps is in memory
    seconds: float = 0.0
    output: str = ""

    @classmethod
    def now(cls, pid: int) -> "Usage":
        """Reads the usage of a running process."""
        private, resident = _memory_kb(pid)
        return cls(private * 1024 / MB, resident * 1024 / MB)

    def as_json(self) -> dict[str, float]:
        """For a report."""
        return {
            "peak_private_mb": self.private_mb,
            "peak_resident_mb": self.resident_mb,
            "seconds": self.seconds,
        }


def run_watched(command: list[str]) -> Usage:
    """Runs to the end, samples its memory every 20 ms; exits with the command's message if it fails."""
    begun = time.perf_counter()
    private = resident = 0.0
    with (
        # Files: a full pipe would stop the command.
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        subprocess.Popen(command, stdout=out, stderr=err, text=True) as process,
    ):
        while process.poll() is None:
            try:
                now = Usage.now(process.pid)
            except (OSError, KeyError):
                break
            private, resident = max(private, now.private_mb), max(resident, now.resident_mb)
            time.sleep(_INTERVAL_S)
        process.wait()
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {errors[-2000:]}")
    return Usage(private, resident, time.perf_counter() - begun, output)


def _memory_kb(pid: int) -> tuple[int, int]:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    anonymous, resident = (int(fields[name].split()[0]) for name in ("RssAnon", "VmRSS"))
    return anonymous, resident
