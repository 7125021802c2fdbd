"""Database "meta" of a store in LMDB: its format, and the encoders whose tokens it has."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb

from rankport.protos.errors import StoreError
from rankport.runtime.store.lmdb_store.environment import LmdbEnvironment, Transaction
from rankport.runtime.store.lmdb_store.open_file import OpenFile
from rankport.runtime.store.token_spec import TokenSpec

FORMAT_NAME = "rankport-token-store"
FORMAT_VERSION = 1
META = b"meta"
NAMESPACE = b"namespace/"
"""Start of the keys of encoders."""
_FORMAT_KEY = b"format"


def open_meta(env: LmdbEnvironment, path: Path, create: bool) -> None:
    """Opens the database of a store, or makes it. Raises `StoreError` where it is of something else, or newer."""
    # A process killed while creating a store leaves an environment without databases: creating goes on there.
    if create and env.is_empty():
        env.write(lambda txn: _write_format(env, txn))
    try:
        env.open_db(META)
    except StoreError as error:
        if not isinstance(error.__cause__, lmdb.NotFoundError):
            raise
        raise StoreError(f"{path} is not a token store: it has no database 'meta'") from error
    with env.read() as txn:
        _check_format(path, bytes(txn.get(_FORMAT_KEY, b"", db=env.db(META))))


def check_successor(path: Path, in_use: Mapping[str, TokenSpec], file: OpenFile) -> None:
    """Raises `StoreError` where a file in the place of an open store lacks what is read of that."""
    try:
        file.open_db(META)
    except lmdb.Error as error:
        raise StoreError(f"{path} is not a token store: it has no database 'meta'") from error
    _check_format(path, file.get(META, _FORMAT_KEY) or b"")
    for fingerprint, spec in in_use.items():
        stored = file.get(META, NAMESPACE + fingerprint.encode())
        if stored != spec.to_json():
            raise StoreError(f"the new one has no tokens {spec} of encoder {fingerprint}")


def _write_format(env: LmdbEnvironment, txn: Transaction) -> None:
    meta = env.create_db(META, txn)
    form = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION}
    txn.put(_FORMAT_KEY, _to_json(form), db=meta)


def _check_format(path: Path, value: bytes) -> None:
    try:
        form = json.loads(value)
    except ValueError:
        form = None
    if not isinstance(form, dict) or form.get("format") != FORMAT_NAME:
        raise StoreError(f"{path} is not a token store: its format is {value[:200]!r}")
    if form != {"format": FORMAT_NAME, "format_version": FORMAT_VERSION}:
        raise StoreError(
            f"token store {path} has format {value[:200]!r}; this release reads version {FORMAT_VERSION}"
        )


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
