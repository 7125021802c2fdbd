"""`Columns`: what goes over a link: plain values by name as JSON, and arrays by name. No pickles, no code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_DTYPES = frozenset({"int64", "int32", "float16", "float32", "float64", "bool", "uint8"})


@dataclass(frozen=True, slots=True)
class Columns:
    """Values and arrays by name."""

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def head(self) -> bytes:
        """Writes the values, and what the arrays are."""
        shapes = [[name, array.dtype.name, array.shape] for name, array in self._ordered()]
        return json.dumps([self.values, shapes], separators=(",", ":")).encode()

    def body(self) -> list[NDArray[np.uint8]]:
        """Gives the bytes of the arrays, in the order of `head`; those of no bytes left out."""
        whole = (np.ascontiguousarray(array) for _, array in self._ordered() if array.nbytes)
        return [array.reshape(-1).view(np.uint8) for array in whole]

    def _ordered(self) -> list[tuple[str, NDArray[Any]]]:
        """Lists the arrays, those of wide values first: each then begins at a multiple of its values' size."""
        return sorted(self.arrays.items(), key=lambda named: -named[1].itemsize)

    @classmethod
    def read(cls, head: bytes, body: NDArray[np.uint8]) -> Self:
        """Reads what `head` and `body` gave; the arrays are views of the bytes. Raises `ValueError` for other bytes."""
        values, shapes = json.loads(head)
        arrays, start = {}, 0
        for name, dtype, shape in shapes:
            if dtype not in _DTYPES:
                raise ValueError(f"column {name!r} is of {dtype}")
            size = prod(shape) * np.dtype(dtype).itemsize
            if start + size > len(body):
                break
            arrays[name] = body[start : start + size].view(dtype).reshape(shape)
            start += size
        if start != len(body) or len(arrays) < len(shapes):
            raise ValueError(f"columns are {shapes}, and {len(body)} bytes came")
        return cls(values, arrays)
