"""Which layout the graphs of a target take."""

from collections.abc import Callable
from functools import partial

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import Layout
from rankport.runtime.backends.layouts.packed import pack
from rankport.runtime.backends.layouts.rectangle import rectangle
from rankport.runtime.bundle.manifest import Target

LayOut = Callable[[PrefixBatch], Layout]


def layout_of(target: Target, hidden: int, table_rows: int = 0) -> LayOut:
    """How a batch is laid out for a target, embeddings `hidden` wide; those that are sent follow a table's rows."""
    if target == "onnx-cuda":
        return partial(rectangle, hidden=hidden, first_row=table_rows)
    assert not table_rows, "graphs of packed tokens take embeddings with each pass"
    return partial(pack, hidden=hidden)
