"""Sets in the code of a model that is traced, in one order: Python's own order of texts is another in each process.

Families of several kinds of layers make masks and rotations kind by kind, over `set(config.layer_types)`: the nodes of
a trace, and with them the bytes of a graph, would follow Python's hash seed.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from rankport.exporters.temporary_attributes import temporary_attributes


class OrderedSet(set[Any]):
    """Set that is walked in the order of its elements' representations."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=repr))


@contextmanager
def sets_in_order(module: nn.Module) -> Iterator[None]:
    """Has the code of the modules of transformers in `module`, while open, make and find sets of one order."""
    parts = [part for part in module.modules() if "transformers" in type(part).__module__]
    with ExitStack() as changed:
        for name in {type(part).__module__ for part in parts}:
            changed.enter_context(temporary_attributes(sys.modules[name], {"set": OrderedSet}, new=True))
        for part in parts:
            sets = {name: OrderedSet(value) for name, value in vars(part).items() if type(value) is set}
            changed.enter_context(temporary_attributes(part, sets))
        yield
