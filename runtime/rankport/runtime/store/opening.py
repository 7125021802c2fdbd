"""`open_store`: the token store at a location, of whatever kind it is."""

import os
from contextlib import ExitStack
from pathlib import Path

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.installed.extras import extras_named
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.snapshot.store import SnapshotStore, check_openable


def open_store(
    location: str | os.PathLike[str],
    *,
    create: bool = False,
    read_only: bool = False,
    frozen: bool = False,
    follow: bool = False,
    check: bool = False,
) -> TokenStore:
    """Opens the token store at `location`: a directory of LMDB, or of snapshots, by what lies in it.

    A URL, `redis://…`, is a store in Redis. `create` makes a store in LMDB, or Redis, if there is none. `frozen` reads
    without a lock; snapshots never need one. `follow` writes on to another store in LMDB that comes into its place.
    `check` reads all pages of one in LMDB first, since a damaged one may end a process that reads through the map.

    Raises:
        InvalidRequest: `create` with `read_only` or `frozen`; or a URL that is not one of Redis.
        MissingExtra: the client library of Redis is not installed.
        StoreError: no store there, not a store, a newer format, a snapshot that is to be written to, or open in this
            process already.
    """
    if "://" in str(location):
        return _open_url(str(location), create=create, read_only=read_only, frozen=frozen)
    path = Path(location)
    if not SnapshotStore.is_at(path):
        return LmdbStore.open(
            path, create=create, read_only=read_only, frozen=frozen, follow=follow, check=check
        )
    if (path / "data.mdb").exists():
        raise StoreError(f"{path} holds a store in LMDB and snapshots: keep them in directories of their own")
    check_openable(path, create=create, read_only=read_only, frozen=frozen)
    return SnapshotStore.open(path)


def given_or_opened(store: TokenStore | str | os.PathLike[str] | None, owned: ExitStack) -> TokenStore | None:
    """Opens a store that is named, to read it until `owned` ends; one that is open stays its caller's."""
    if store is None or isinstance(store, TokenStore):
        return store
    return owned.enter_context(open_store(store, read_only=True))


def _open_url(location: str, *, create: bool, read_only: bool, frozen: bool) -> TokenStore:
    if frozen:
        raise InvalidRequest(
            f"frozen goes with a store that is a directory, not {location.partition('://')[0]}://"
        )
    with extras_named("a token store in Redis"):
        from rankport.runtime.store.redis_store.store import RedisStore
    return RedisStore.open(location, create=create, read_only=read_only)
