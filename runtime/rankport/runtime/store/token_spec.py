"""`TokenSpec`: shape and type that all tokens of one encoder share, and what an item key may be.

Owns how both are checked and written down, for every kind of store.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from rankport.protos.errors import InvalidRequest, StoreError

CONTENT_HASH_BYTES: Final = 16
MAX_KEY_BYTES: Final = 65_535

_DTYPE_BYTES = {"float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """Shape and type of an item's tokens.

    Raises:
        StoreError: a size is not positive, or no store keeps the dtype.
    """

    tokens: int  # k
    hidden_size: int
    dtype: str  # "float16" | "float32"

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPE_BYTES:
            raise StoreError(
                f"tokens of dtype {self.dtype!r} cannot be stored: use {' or '.join(_DTYPE_BYTES)}"
            )
        if min(self.tokens, self.hidden_size) < 1:
            raise StoreError(
                f"token shape [{self.tokens}, {self.hidden_size}]: both sizes must be at least 1"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of one item's tokens."""
        return self.tokens * self.hidden_size * _DTYPE_BYTES[self.dtype]

    @property
    def numpy_dtype(self) -> np.dtype[np.floating]:
        """Element type, little-endian as stored."""
        return np.dtype(self.dtype).newbyteorder("<")

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
