"""What ONNX Runtime's CUDA provider leaves to the CPU of a graph, by its own word."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SHAPES = frozenset(
    [
        "Add",
        "Cast",
        "Concat",
        "Div",
        "Gather",
        "Max",
        "Min",
        "Mul",
        "Range",
        "Reshape",
        "Slice",
        "Squeeze",
        "Sub",
    ]
)
"""Operators that count sizes of tensors: they stay on the host, where sizes are."""
_PLACED = re.compile(r"(?:placed on|All nodes placed on) \[(\w+)\]\. Number of nodes: (\d+)")
_NODE = re.compile(r"\]\s{2,}(\w+) \(([^)]*)\)")


def placed_nodes(file: Path) -> dict[str, list[str]]:
    """Loads a graph for CUDA and returns the operators of its nodes by the provider that has them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 0
    options.enable_mem_pattern = False
    provider = {"use_tf32": "0"}
    with tempfile.TemporaryFile() as log:
        with _stderr_to(log.fileno()):
            onnxruntime.InferenceSession(file, options, providers=[(CUDA, provider)])
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
    placed: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    current = ""
    for line in lines:
        if "VerifyEachNodeIsAssignedToAnEp" not in line:
            continue
        if head := _PLACED.search(line):
            current = head[1]
            placed[current], counts[current] = [], int(head[2])
        elif node := _NODE.search(line):
            placed[current].append(node[1])
    assert counts, "ONNX Runtime says nothing of placements any more"
    assert counts.keys() <= {CPU, CUDA}
    assert {name: len(nodes) for name, nodes in placed.items() if nodes} in (
        counts,
        {},
    )  # one provider: no list
    return placed


@contextmanager
def _stderr_to(target: int) -> Iterator[None]:
    kept = os.dup(2)
    os.dup2(target, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
