"""Rows that a backend of texts makes of sample runs: alone, and padded beside others."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.texts.samples import Runs
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.tokens import TokenRun, TokenRuns

Answers = Mapping[str, NDArray[np.floating]]  # mode -> rows [runs, ...]


def answers_by_mode(backend: TextBackend, runs: Runs) -> Answers:
    """Answers runs alone, and padded together: the short ones, and the longest beside two of them, or the only one."""
    alone = np.concatenate([backend.compute(runs_of([run])) for run in runs])
    longest = max(range(len(runs)), key=lambda i: len(runs[i]))
    short = [i for i in range(len(runs)) if i != longest]
    batched = np.empty_like(alone)
    batched[short] = backend.compute(runs_of([runs[i] for i in short]))
    first, *second = (runs[i] for i in short[:2])
    batched[longest] = backend.compute(runs_of([first, runs[longest], *second]))[1]
    return {"one_item": alone, "batch": batched}


def runs_of(runs: Runs) -> TokenRuns:
    """Packs runs as a backend takes them."""
    return TokenRuns.of([TokenRun(run) for run in runs])
