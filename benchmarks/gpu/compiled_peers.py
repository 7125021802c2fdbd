"""The peers under torch.compile, the most telling first: each costs up to a minute of compilation."""

import time

import torch

from benchmarks.gpu.part import Part, arguments
from benchmarks.gpu.peers import CompiledPeer, measure
from benchmarks.gpu.shapes import RequestShape
from benchmarks.gpu.torch_model import random_model


def main() -> None:
    """Measures until the time is up; what is compiling then is stopped from outside."""
    part = arguments(__doc__)
    torch._dynamo.config.recompile_limit = 32
    peer = CompiledPeer(random_model(part.workload.model, part.device, torch.bfloat16))
    for request in part.requests:
        _measure(part, peer, request, "repeated_prefix")
    # Compiled layers serve full prompts alone, so they come last.
    peer.compile_layers()
    for request in part.requests:
        _measure(part, peer, request, "full_prompts")


def _measure(part: Part, peer: CompiledPeer, request: RequestShape, way: str) -> None:
    """One pass size only, the larger one: another would be compiled anew."""
    if not part.enough(20 if part.device == "cuda" else 0, f"{request.name} {way}, compiled"):
        return
    begun = time.monotonic()
    measure(part, peer, way, request, part.scale.peer_tokens[-1:], "compiled", latency=False)
    part.figures.add(f"{request.name} compiled {way} took_s", time.monotonic() - begun)


if __name__ == "__main__":
    main()
