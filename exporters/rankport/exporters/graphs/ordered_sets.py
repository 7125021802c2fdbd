"""Sets in the code of a model that is built or traced, in one order: Python's own is another in each process.

Families of several kinds of layers make masks and rotations kind by kind, over `set(config.layer_types)`: the nodes of
a trace, and with them the bytes of a graph, would follow Python's hash seed. So would buffers that are made so.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from torch import nn

from rankport.exporters.temporary_attributes import temporary_attributes


class OrderedSet(set[Any]):
    """Set that is walked in the order of its elements' representations."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=repr))


@contextmanager
def sets_made_in_order(code: Iterable[ModuleType]) -> Iterator[None]:
    """Has some modules of Python, while open, make sets of one order."""
    with ExitStack() as changed:
        for module in code:
            changed.enter_context(temporary_attributes(module, {"set": OrderedSet}, new=True))
        yield


@contextmanager
def sets_in_order(module: nn.Module) -> Iterator[None]:
    """Has the code of the modules of transformers in `module`, while open, make and find sets of one order."""
    parts = [part for part in module.modules() if "transformers" in type(part).__module__]
    code = {sys.modules[type(part).__module__] for part in parts}
    with ExitStack() as changed:
        changed.enter_context(sets_made_in_order(code))
        for part in parts:
            sets = {name: OrderedSet(value) for name, value in vars(part).items() if type(value) is set}
            changed.enter_context(temporary_attributes(part, sets))
        yield
