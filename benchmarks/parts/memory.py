"""What a ranker costs in memory, by prepacking: each measured in a fresh process."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_PROBE = """
import json, resource, sys, time
import psutil
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from benchmarks.parts.model import Case, Request

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

process = psutil.Process()
before = process.memory_full_info().uss
start = time.perf_counter()
ranker = Ranker.load(sys.argv[1], config=EngineConfig(prepacking=sys.argv[2]))
load_s = time.perf_counter() - start
private_mb = (process.memory_full_info().uss - before) / 1e6
peaks = []
for items in (250, 10_000):
    request = Request.random(Case(60, items, 8), 0)
    ranker.score(request.prefix, request.items)
    peaks.append(peak_mb())
ranker.close()
growth_mb = peaks[1] - peaks[0]
print(json.dumps({"private_mb": private_mb, "load_s": load_s, "growth_250_to_10000_items_mb": growth_mb}))
"""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Both graphs of a ranker, loaded; then a request of 250 items and one of 10,000."""

    prepacking: str
    weights_mb: float
    private_mb: float  # after load
    load_s: float
    growth_250_to_10000_items_mb: float  # of the peak resident memory

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"prepacking={self.prepacking}: {self.weights_mb:.0f} MB of weights, {self.private_mb:.0f} MB private "
            f"memory after a load of {self.load_s:.2f} s; peak grows by {self.growth_250_to_10000_items_mb:.0f} MB "
            "from 250 to 10,000 items a request"
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
