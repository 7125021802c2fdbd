"""The peers under torch.compile, the most telling first: each costs up to a minute of compilation.

A rehearsal traces the passes and runs them as they are: C++ of toys takes minutes and tells nothing of a GPU.
"""

import time

import torch

from benchmarks.gpu.peers import CompiledPeer, measure
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.shapes import RequestShape
from benchmarks.gpu.workload.torch_model import random_model


def main() -> None:
    """Measures until the time is up; what is compiling then is stopped from outside."""
    part = arguments(__doc__)
    torch._dynamo.config.recompile_limit = 32
    # Two models: compiled layers serve full prompts alone, see CompiledPeer.
    backend = "inductor" if part.on_gpu else "eager"
    layers, whole = (
        CompiledPeer(random_model(part.workload.model, part.device, torch.bfloat16), backend)
        for _ in range(2)
    )
    layers.compile_layers()
    for request in part.requests:
        _measure(part, layers, request, "full_prompts")
        _measure(part, whole, request, "repeated_prefix")


def _measure(part: Part, peer: CompiledPeer, request: RequestShape, way: str) -> None:
    """One pass size only, the larger one: another would be compiled anew."""
    if not part.enough(20 if part.device == "cuda" else 0, f"{request.name} {way}, compiled"):
        return
    begun = time.monotonic()
    measure(part, peer, way, request, part.scale.peer_tokens[-1:], "compiled", latency=False)
    part.figures.add(f"{request.name} compiled {way} took_s", time.monotonic() - begun)


if __name__ == "__main__":
    main()
