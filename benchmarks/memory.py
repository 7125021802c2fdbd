"""What loading a bundle's graphs costs in private memory, by prepacking: each measured in a fresh process."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_PROBE = """
import json, sys, time
import psutil
from rankport.runtime.backends.onnxruntime import OnnxRuntimeScoringBackend
from rankport.runtime.bundle import Bundle
from rankport.runtime.config import EngineConfig
bundle = Bundle.open(sys.argv[1])
process = psutil.Process()
before = process.memory_full_info().uss
start = time.perf_counter()
backend = OnnxRuntimeScoringBackend(bundle, EngineConfig(prepacking=sys.argv[2]))
seconds = time.perf_counter() - start
print(json.dumps({"private_mb": (process.memory_full_info().uss - before) / 1e6, "load_s": seconds}))
"""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Both graphs of a ranker, loaded."""

    prepacking: str
    weights_mb: float
    private_mb: float
    load_s: float

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"prepacking={self.prepacking}: {self.weights_mb:.0f} MB of weights, "
            f"{self.private_mb:.0f} MB private memory after load, {self.load_s:.2f} s"
        )


def load_footprints(bundle: Path) -> list[Footprint]:
    """One per prepacking."""
    weights_mb = (bundle / "weights.bin").stat().st_size / 1e6
    footprints = []
    for prepacking in ("throughput", "footprint"):
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, str(bundle), prepacking],
            capture_output=True,
            text=True,
            check=True,
        )
        footprints.append(Footprint(prepacking, weights_mb, **json.loads(done.stdout)))
    return footprints
