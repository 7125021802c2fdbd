"""Traces kept: tracing is most of what an export of a tiny model takes, and does not depend on the precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import pytest

from rankport.exporters.kinds.ranker import graphs as ranker_graphs


class Traces:
    """Of models by name. Exports cut copies out of a trace and leave it as it is."""

    def __init__(self) -> None:
        self._made: dict[str, ir.Model] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """While open, exports take the trace of that name; the first makes it."""
        trace = ranker_graphs.trace

        def once(*arguments: Any) -> ir.Model:
            if name not in self._made:
                self._made[name] = trace(*arguments)
            return self._made[name]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranker_graphs, "trace", once)
            yield
