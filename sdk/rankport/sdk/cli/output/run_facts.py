"""Facts of a run that measured something: command, time, machine, tools."""

import os
import platform
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rankport.protos.installed.packages import installed_version

_TOOLS = ("rankport", "torch", "transformers", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Command of a run, its time, machine and tools."""

    command: str
    date: str  # ISO 8601, UTC, to the second
    machine: str
    tools: dict[str, str]  # name -> version, of what is installed

    @classmethod
    def of_this(cls) -> "RunFacts":
        """Describes this process."""
        return cls(
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}",
            tools={tool: version for tool in _TOOLS if (version := installed_version(tool)) is not None},
        )

    @property
    def tools_in_words(self) -> str:
        """Names the tools with their versions."""
        return ", ".join(f"{name} {version}" for name, version in self.tools.items())


def _processor() -> str:
    """Names the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
