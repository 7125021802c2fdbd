"""The file that carries the reference's logits from the process with torch to the one without."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.gpu.reports.part import Part
from rankport.exporters.proof.compare import Logits


def save_expected(part: Part, expected: Sequence[Logits]) -> None:
    """One array a request, in order."""
    named = {f"{index:04}": logits for index, logits in enumerate(expected)}
    np.savez(_file(part), allow_pickle=False, **named)


def load_expected(part: Part) -> list[Logits]:
    """As saved."""
    with np.load(_file(part)) as stored:
        return [stored[name] for name in sorted(stored.files)]


def _file(part: Part) -> Path:
    return part.work / f"{part.workload.model.name}.expected.npz"
