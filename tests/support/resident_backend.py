"""A reference backend with a table of embedding tokens, in this process and in those that it starts.

It is what a device that keeps tokens is to an engine, without graphs: rows of the table stand for what is sent.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.runtime.backends import choice
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.tokens import TokenRuns
from support.reference_backend import HIDDEN, ReferenceBackend

ROW_BYTES = 4 * HIDDEN
_SITE = "from support.resident_backend import use_here; use_here()\n"


class HostTable:
    """`TokenTable` of host memory; rows that were never written are not finite."""

    def __init__(self, rows: int) -> None:
        self.values = np.full((rows, HIDDEN), np.nan, np.float32)

    @property
    def rows(self) -> int:
        return len(self.values)

    def write(self, row: int, tokens: NDArray[np.floating]) -> None:
        self.values[row : row + len(tokens)] = tokens


class ResidentBackend(ReferenceBackend):
    """`PrefixBackend` whose runs may name rows of its table."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table: Any = HostTable(rows)

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        return super().score(replace(batch, runs=self._with_rows(batch.runs)))

    def _with_rows(self, runs: TokenRuns) -> TokenRuns:
        if runs.table is None:
            return runs
        assert runs.table.keys is None, "rows are the table's own"
        values = np.concatenate([self.table.values, *runs.blocks])
        return replace(runs, blocks=(values[runs.rows(self.table.rows)],), table=None)


def load_prefix_backend(bundle: Bundle, config: EngineConfig = DEFAULTS, *, gpu: int = 0) -> PrefixBackend:
    """Loads the same model for every bundle, with room for as many embedding tokens as `config` says."""
    rows = config.device_tokens_bytes // ROW_BYTES
    return ResidentBackend(rows) if rows else ReferenceBackend()


def use_here() -> None:
    """Has this process load it for every ranker."""
    choice.load_prefix_backend = load_prefix_backend


def use_in_all_processes(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has this process, and Python processes that it starts, load it for every ranker."""
    (folder / "sitecustomize.py").write_text(_SITE, encoding="utf-8")
    patch.syspath_prepend(str(folder))
    patch.setattr(choice, "load_prefix_backend", load_prefix_backend)
