"""The bundle through `rankport serve --fronts N` over gRPC, beside `served`, which has one process for all.

The engine's process drives the device alone; its cores bound what any number of fronts can reach.
"""

import dataclasses
import os

from benchmarks.gpu.reports.part import arguments
from benchmarks.gpu.served import ramp, serving
from benchmarks.gpu.workload.load import LoadGenerator

_RAMP = 2
"""Steps of a ramp, the largest numbers of callers: fewer do not need fronts."""


def main() -> None:
    """One server for the request shapes with many items, which are those that the host limits."""
    part = arguments(__doc__)
    fronts = max(2, min(6, (os.cpu_count() or 1) // 3))
    log = part.work / f"serve.{part.bundle.name}.fronts.log"
    part.figures.add("fronts", fronts)
    try:
        # More connections than fronts: the kernel deals them out by chance.
        generators = max(2 * fronts, part.scale.generators) if part.on_gpu else part.scale.generators
        with (
            serving(part, log, "--fronts", str(fronts)) as server,
            LoadGenerator(server.address, generators) as load,
        ):
            part.figures.add("ready_s", server.ready_s)
            for request in part.requests:
                if request.mixed:
                    ramp(part, server, load, dataclasses.replace(request, callers=request.callers[-_RAMP:]))
    finally:
        print(f"--- end of {log.name}\n{log.read_text()[-3000:]}---", flush=True)
    part.figures.add("done", True)


if __name__ == "__main__":
    main()
