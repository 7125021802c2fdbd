"""`open_store`: the token store at a location, of whatever kind it is."""

import os

from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore


def open_store(
    location: str | os.PathLike[str],
    *,
    create: bool = False,
    read_only: bool = False,
    frozen: bool = False,
) -> TokenStore:
    """Opens the token store at `location`, a directory of LMDB; `create` makes it if there is none.

    `frozen` reads without a lock.

    Raises:
        InvalidRequest: `create` with `read_only` or `frozen`.
        StoreError: no store there, not a store, a newer format, or open in this process already.
    """
    return LmdbStore.open(location, create=create, read_only=read_only, frozen=frozen)
