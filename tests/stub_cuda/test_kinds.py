"""Every kind on ONNX Runtime's own CUDA provider: it loads, stays on the device, is recorded, and leaves nothing."""

import logging

import pytest

from benchmarks.gpu.without_gpu import stub
from support.effort import full_effort
from support.gpu.device_memories import Memories
from support.gpu.kinds_on_cuda import KINDS, BundleOf, forms_of
from support.gpu.placed_nodes import CPU, SHAPES, placed_nodes

pytestmark = [pytest.mark.stub_cuda, pytest.mark.usefixtures("traces")]

ROUNDS = 4
EVERY_RUN = frozenset(["fp32", "fp16"])
MAIN = frozenset(["ranker", "item-encoder", "generator"])
"""Kinds of which each run has every form."""
CASES = [
    pytest.param(
        kind, form, id=f"{kind}, {form}", marks=() if form in EVERY_RUN or kind in MAIN else full_effort
    )
    for kind in KINDS
    for form in forms_of(kind)
]
each_kind = pytest.mark.parametrize(("kind", "form"), CASES)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lists what the runtime warned of: "cannot be recorded", say."""
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in loud if record.name.startswith("rankport.runtime")]


@each_kind
def test_a_kind_runs_on_cuda_but_for_its_numbers(
    kind: str, form: str, bundle_of: BundleOf, memories: Memories, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = bundle_of(kind, form)
    with KINDS[kind].asked(bundle) as ask:
        assert not warnings(caplog)
        stub.take_launches()
        before = memories.transfers()
        for _ in range(ROUNDS - 1):
            ask()
        launches = stub.take_launches()
        ask()
        replayed = stub.take_launches()
        after = memories.transfers()
    assert replayed["replays"]
    # Zeros of what is padded are set before a pass.
    assert stub.kernels(replayed).keys() <= {"memset"}, "a pass that came a fourth time is not replayed"
    total = launches + replayed
    assert total["bytes, host to device"] == after.to_device - before.to_device
    assert total["bytes, device to host"] == after.to_host - before.to_host
    assert not warnings(caplog)


@each_kind
def test_nodes_of_a_graph_are_all_on_the_device_but_what_counts_sizes(
    kind: str, form: str, bundle_of: BundleOf
) -> None:
    view = bundle_of(kind, form).for_target("onnx-cuda")
    for file in {graph.file for graph in view.manifest.graphs}:
        placed = placed_nodes(view.file(file))
        assert set(placed.get(CPU, ())) <= SHAPES, file
        moved = [node for nodes in placed.values() for node in nodes if node.startswith("Memcpy")]
        assert not moved, file
