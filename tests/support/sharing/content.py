"""A hash of Python objects by content: modules with their weights, configurations, tensors, functions.

Equal content gives equal hashes in every process. Objects that come twice are told apart from equal ones, so tied
weights count as tied. Where a checkpoint lies is left out.
"""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch

_PLACES = {"_name_or_path", "name_or_path"}


def content_hash(*values: object) -> str:
    """sha256 of all that the values hold."""
    content = _Content()
    content.add(values)
    return content.sha.hexdigest()


class _Content:
    def __init__(self) -> None:
        self.sha = hashlib.sha256()
        self.seen: dict[
            int, tuple[int, object]
        ] = {}  # the object too: its id is not given to another meanwhile

    def add(self, value: Any) -> None:
        if isinstance(value, str | bytes | int | float | complex | None | torch.dtype | torch.device):
            self.say(type(value).__name__, repr(value))
        elif id(value) in self.seen:
            self.say("again", str(self.seen[id(value)][0]))
        else:
            self.seen[id(value)] = len(self.seen), value
            self.say(type(value).__module__, type(value).__qualname__)
            self.add_parts(value)

    def add_parts(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            data = value.detach().reshape(-1).contiguous().view(torch.uint8).numpy()
            self.say(str(value.dtype), str(tuple(value.shape)), str(value.requires_grad))
            self.sha.update(data.tobytes())
        elif isinstance(value, np.ndarray):
            self.say(str(value.dtype), str(value.shape))
            self.sha.update(value.tobytes())
        elif isinstance(value, Mapping):
            self.add_all(part for pair in value.items() if pair[0] not in _PLACES for part in pair)
        elif isinstance(value, set | frozenset):
            self.add_all(sorted(value, key=repr))
        elif isinstance(value, list | tuple):
            self.add_all(value)
        elif isinstance(value, type | FunctionType | MethodType | functools.partial):
            self.add_callable(value)
        else:
            self.add_attributes(value)

    def add_callable(self, value: Any) -> None:
        if isinstance(value, functools.partial):
            self.add_all((value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            self.add_all((value.__func__, value.__self__))
        else:
            self.say(value.__module__, value.__qualname__)
            cells = getattr(value, "__closure__", None) or ()
            self.add_all(cell.cell_contents for cell in cells)

    def add_attributes(self, value: Any) -> None:
        attributes = getattr(value, "__dict__", {})
        self.add(_numbered_hooks(attributes) if isinstance(value, torch.nn.Module) else attributes)
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        self.add_all(getattr(value, name, None) for name in slots if not name.startswith("__"))

    def add_all(self, values: Iterable[object]) -> None:
        for value in values:
            self.add(value)
        self.say("end")

    def say(self, *words: str) -> None:
        for word in words:
            self.sha.update(f"{len(word)}:{word}".encode())


def _numbered_hooks(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers a module's hooks from 0: torch counts all that a process registers."""
    hooks = {
        name: value
        for name, value in attributes.items()
        if "_hooks" in name and isinstance(value, OrderedDict)
    }
    numbers = {
        key: number for number, key in enumerate(sorted({key for value in hooks.values() for key in value}))
    }
    return {
        **attributes,
        **{name: {numbers[key]: hook for key, hook in value.items()} for name, value in hooks.items()},
    }
