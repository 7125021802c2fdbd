"""Sets in the code of a model that is traced, in one order: Python's own order of texts is another in each process.

Families of several kinds of layers make masks and rotations kind by kind, over `set(config.layer_types)`: the nodes of
a trace, and with them the bytes of a graph, would follow Python's hash seed.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch import nn


class OrderedSet(set[Any]):
    """Set that is walked in the order of its elements' representations."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=repr))


@contextmanager
def sets_in_order(module: nn.Module) -> Iterator[None]:
    """Has the code of the modules of transformers in `module`, while open, make and find sets of one order."""
    parts = [part for part in module.modules() if "transformers" in type(part).__module__]
    with ExitStack() as patched:
        for name in {type(part).__module__ for part in parts}:
            patched.enter_context(patch.object(sys.modules[name], "set", OrderedSet, create=True))
        for part in parts:
            kept = {name: value for name, value in vars(part).items() if type(value) is set}
            for name, value in kept.items():
                patched.enter_context(patch.object(part, name, OrderedSet(value)))
        yield
