"""Small entries of a token store, and a way to write past it."""

from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray

from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.token_spec import TokenSpec

SPEC = TokenSpec(2, 4, "float16")
ENCODER = "a" * 64
HASH = b"0123456789abcdef"


def tokens_of(number: int) -> NDArray[np.float16]:
    """Makes tokens that all hold `number`."""
    return np.full((2, 4), number, np.float16)


def entry(key: str, number: int = 0) -> TokenEntry:
    """Makes the entry of `key` with the tokens of `number`."""
    return TokenEntry(key, tokens_of(number), HASH)


def raw_put(path: Path, database: bytes, key: bytes, value: bytes) -> None:
    """Writes to a closed store's LMDB, past every check."""
    with lmdb.open(str(path), max_dbs=8) as env, env.begin(write=True) as txn:
        txn.put(key, value, db=env.open_db(database, txn=txn))
