"""`TokenSpec`: shape and type that all tokens of one encoder share, their bytes, and what an item key may be.

Owns how these are checked and written down, for every kind of store.

Bytes of an item's tokens, little-endian
    float16, float32    k * d elements (IEEE 754), row by row
    int8                k scales (float32), then k * d elements (int8), row by row. A scale is the largest magnitude of
                        its token, as float16, over 127; an element times its scale, as float16, is what is read.
Tokens that were read of int8 and are stored as int8 again are the same bytes.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError

CONTENT_HASH_BYTES: Final = 16
MAX_KEY_BYTES: Final = 65_535

_READ_AS = {"float16": "float16", "float32": "float32", "int8": "float16"}
_SCALE = np.dtype("<f4")
_LARGEST = 127


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """Shape and type of an item's tokens.

    Raises:
        StoreError: a size is not positive, or no store keeps the dtype.
    """

    tokens: int  # k
    hidden_size: int
    dtype: str  # "float16" | "float32" | "int8"

    def __post_init__(self) -> None:
        if self.dtype not in _READ_AS:
            raise StoreError(f"tokens of dtype {self.dtype!r} cannot be stored: use {', '.join(_READ_AS)}")
        if min(self.tokens, self.hidden_size) < 1:
            raise StoreError(
                f"token shape [{self.tokens}, {self.hidden_size}]: both sizes must be at least 1"
            )

    @property
    def elements(self) -> int:
        """Elements of one item's tokens."""
        return self.tokens * self.hidden_size

    @property
    def nbytes(self) -> int:
        """Bytes of one item's tokens as stored."""
        if self.dtype == "int8":
            return self.tokens * _SCALE.itemsize + self.elements
        return self.read_nbytes

    @property
    def read_nbytes(self) -> int:
        """Bytes of one item's tokens as read."""
        return self.elements * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype[np.floating]:
        """Element type as read and as given to be stored, little-endian."""
        return np.dtype(_READ_AS[self.dtype]).newbyteorder("<")

    def pack(self, tokens: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Writes tokens [items, k, hidden], finite and of `numpy_dtype`, as bytes [items, nbytes]."""
        fitting = np.ascontiguousarray(tokens, self.numpy_dtype)
        if self.dtype != "int8":
            return fitting.reshape(len(tokens), self.elements).view(np.uint8)
        exact = fitting.astype(_SCALE)
        scales = np.abs(exact).max(axis=2) / np.float32(_LARGEST)  # [items, k]
        levels = np.rint(exact / np.where(scales == 0, np.float32(1), scales)[..., None]).astype(np.int8)
        flat = levels.reshape(len(tokens), self.elements).view(np.uint8)
        return np.concatenate([scales.view(np.uint8), flat], axis=1)

    def unpack(self, rows: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Reads bytes [items, nbytes] as tokens [items, k, hidden]; a view of them where it can be."""
        shape = len(rows), self.tokens, self.hidden_size
        if self.dtype != "int8":
            return rows.view(self.numpy_dtype).reshape(shape)
        scales_bytes = self.tokens * _SCALE.itemsize
        scales = np.ascontiguousarray(rows[:, :scales_bytes]).view(_SCALE)
        levels = rows[:, scales_bytes:].view(np.int8).reshape(shape)
        with np.errstate(invalid="ignore", over="ignore"):  # bytes that no `pack` wrote
            return (levels * scales[..., None]).astype(self.numpy_dtype)

    def as_read(self, tokens: NDArray[np.floating]) -> NDArray[np.floating]:
        """Makes of tokens [items, k, hidden] what a store gives back that keeps them."""
        fitting = tokens.astype(self.numpy_dtype, copy=False)
        return self.unpack(self.pack(fitting)) if self.dtype == "int8" else fitting

    def to_json(self) -> bytes:
        """Writes the spec as stores keep it: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, value: bytes) -> "TokenSpec":
        """Reads what `to_json` wrote. Raises `ValueError`, `TypeError` or `StoreError` for anything else."""
        return cls(**json.loads(value))

    def __str__(self) -> str:
        return f"[{self.tokens}, {self.hidden_size}] {self.dtype}"


def encoded_key(key: str) -> bytes:
    """Writes an item key in UTF-8.

    Raises:
        InvalidRequest: the key is not a string, empty, not encodable as UTF-8, or longer than 65,535 bytes.
    """
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"an item key must be a string that is not empty, not {key!r}")
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"item key {key[:40]!r} cannot be written as UTF-8: {error.reason}") from error
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidRequest(f"item key {key[:40]!r}… has {len(encoded)} bytes, the limit is {MAX_KEY_BYTES}")
    return encoded
