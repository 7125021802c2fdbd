"""`LmdbStore`: embedding tokens of items by key, one namespace for each encoder, in one LMDB directory.

Owns namespaces and their specs. `namespace` reads and writes tokens, `records` has the bytes of
keys and values, `environment` transactions and growth.

Databases of the environment
    meta                     "format" -> {"format":"rankport-token-store","format_version":1}
                             "namespace/<fingerprint>" -> {"dtype":…,"hidden_size":…,"tokens":…}
                             "filling/<fingerprint>" -> the same, until it is published: renamed in one transaction
    tokens/<fingerprint>     item key -> tokens
The JSON has sorted keys and no spaces. A namespace and its spec appear in one transaction.

Several processes may read while one writes; writers take turns. One process opens a directory once: a server
of several rankers gives them one `TokenStore`, whose methods any thread may call. A *frozen* store is read without a
lock: on a volume that cannot be written, and from any number of containers, as long as nobody writes.

A store that another one replaces, by a directory renamed into its place, is opened anew by its readers.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from shlex import quote
from typing import NoReturn

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.data_file import DATA, LOCK, left_by_compaction
from rankport.runtime.store.lmdb_store.environment import LmdbEnvironment, Opening, Transaction
from rankport.runtime.store.lmdb_store.meta import META, NAMESPACE, check_successor, open_meta
from rankport.runtime.store.lmdb_store.namespace import LmdbNamespace
from rankport.runtime.store.refusals import corrupt_spec
from rankport.runtime.store.token_spec import TokenSpec

START_MAP_BYTES = 64 * 2**20
SWAP_S = 5.0

_FILLING = b"filling/"
_TOKENS = b"tokens/"
_MAX_NAMESPACES = 127
_LMDB_FILES = {DATA, LOCK}
_DATASET_FILE = "_dataset.json"  # of the jobs, which are above stores


class LmdbStore(TokenStore):
    """Directory of namespaces; a context manager."""

    can_hide = True

    def __init__(self, path: Path, env: LmdbEnvironment, in_use: dict[str, TokenSpec]) -> None:
        super().__init__(str(path))
        self._env = env
        self._in_use = in_use  # which a store that comes into the place of this one must have

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        read_only: bool = False,
        frozen: bool = False,
        follow: bool = False,
        check: bool = False,
        map_bytes: int = START_MAP_BYTES,
        swap_s: float = SWAP_S,
    ) -> "LmdbStore":
        """Opens the store at directory `path`; `create` makes it if there is none.

        `frozen` opens it read-only and without a lock. `map_bytes` is where the map starts; it doubles when full. The
        file takes only what is stored. If the directory goes, its tokens are read on for `swap_s` seconds, in which
        another store may come into its place. Reading goes on in that one; what was opened to be written to ends there,
        unless it is to `follow`. `check` reads all pages before one is touched by LMDB.

        Raises:
            InvalidRequest: `create` with `read_only` or `frozen`.
            StoreError: no store there, not a store, a newer format, damaged, or open in this process already.
        """
        directory = Path(path)
        if create and (read_only or frozen):
            raise InvalidRequest(f"token store {directory}: a store that is created cannot be read-only")
        _check_directory(directory, create)
        opening = Opening(
            path=directory,
            read_only=read_only or frozen,
            frozen=frozen,
            follow=follow,
            map_bytes=map_bytes,
            max_dbs=_MAX_NAMESPACES + 1,
            swap_s=swap_s,
        )
        while True:
            in_use: dict[str, TokenSpec] = {}
            env = LmdbEnvironment.open(opening, partial(check_successor, directory, in_use))
            try:
                if check:
                    env.check_pages()
                open_meta(env, directory, create)
                return cls(directory, env, in_use)
            except BaseException as error:
                env.close()
                if not (isinstance(error, StoreError) and error.replaced):  # else it was compacted meanwhile
                    raise

    def fingerprints(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens the store has.

        Raises:
            StoreError: a spec cannot be read, or the store is closed.
        """
        return self._specs_under(NAMESPACE)

    def filling(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens are hidden until they are published; raises as `fingerprints`."""
        return self._specs_under(_FILLING)

    @property
    def writable(self) -> bool:
        """False where the store was opened to be read."""
        return not self._env.read_only

    def beside(self) -> NoReturn:
        """Raises `InvalidRequest`: a process opens a directory once."""
        raise InvalidRequest(
            f"store {self.location} is in LMDB, which a process opens once, and this one has it open to be read: start "
            "the server with --write-back, which also keeps what requests have encoded, or fill another store and "
            "put that into its place"
        )

    def counts(self) -> dict[str, int]:
        """Counts the items of each encoder, hidden ones too."""
        encoders = [*self.fingerprints(), *self.filling()]
        return {fingerprint: len(self.namespace(fingerprint, filling=True)) for fingerprint in encoders}

    def compact(self, directory: Path, then: Callable[[Mapping[str, int]], None]) -> None:
        """Copies the store into an empty directory without its free pages, and calls `then` with `counts`.

        No process can write to the store until `then` returns. Raises `StoreError`, on a full disk, say.
        """
        self._env.copy_compacted(directory, lambda txn: then(self._counts(txn)))

    def close(self) -> None:
        """Waits for transactions in other threads and frees the map. Closing twice does nothing."""
        self._env.close()

    def _open_namespace(self, fingerprint: str, spec: TokenSpec) -> LmdbNamespace:
        database = _TOKENS + fingerprint.encode()
        self._env.open_db(database)
        self._in_use[fingerprint] = spec
        return LmdbNamespace(self._env, database, fingerprint, spec)

    def _create_namespace(self, fingerprint: str, spec: TokenSpec) -> None:
        self._create(fingerprint, spec, NAMESPACE)

    def _create_hidden(self, fingerprint: str, spec: TokenSpec) -> None:
        self._create(fingerprint, spec, _FILLING)

    def _publish(self, fingerprint: str) -> None:
        name = fingerprint.encode()

        def body(txn: Transaction) -> None:
            spec = txn.pop(_FILLING + name, db=self._env.db(META))
            if spec is not None:  # else another process was first
                txn.put(NAMESPACE + name, spec, db=self._env.db(META))

        self._env.write(body)

    def _drop(self, fingerprint: str) -> None:
        name = fingerprint.encode()

        def body(txn: Transaction) -> None:
            for prefix in (NAMESPACE, _FILLING):
                txn.delete(prefix + name, db=self._env.db(META))
            txn.drop(self._env.create_db(_TOKENS + name, txn))

        self._env.write(body)

    def _create(self, fingerprint: str, spec: TokenSpec, prefix: bytes) -> None:
        def body(txn: Transaction) -> None:
            # Another process may have been first: its spec stays, and is compared when read back.
            meta, name = self._env.db(META), fingerprint.encode()
            if all(txn.get(other + name, db=meta) is None for other in (NAMESPACE, _FILLING)):
                self._env.create_db(_TOKENS + name, txn)
                txn.put(prefix + name, spec.to_json(), db=meta)

        self._env.write(body)

    def _counts(self, txn: Transaction) -> dict[str, int]:
        """Counts as `counts`, in a transaction beside which nobody writes."""
        encoders = [*self._specs(txn, NAMESPACE), *self._specs(txn, _FILLING)]
        return {
            name: txn.stat(self._env.create_db(_TOKENS + name.encode(), txn))["entries"] for name in encoders
        }

    def _specs_under(self, prefix: bytes) -> dict[str, TokenSpec]:
        with self._env.read() as txn:
            return self._specs(txn, prefix)

    def _specs(self, txn: Transaction, prefix: bytes) -> dict[str, TokenSpec]:
        specs: dict[str, TokenSpec] = {}
        with txn.cursor(self._env.db(META)) as cursor:
            more = cursor.set_range(prefix)
            while more and bytes(cursor.key()).startswith(prefix):
                fingerprint = bytes(cursor.key())[len(prefix) :].decode()
                specs[fingerprint] = self._parse_spec(fingerprint, bytes(cursor.value()))
                more = cursor.next()
        return specs

    def _parse_spec(self, fingerprint: str, value: bytes) -> TokenSpec:
        try:
            return TokenSpec.from_json(value)
        except (ValueError, TypeError, StoreError) as error:
            raise corrupt_spec(fingerprint, value, self.location) from error

    def _check_process(self) -> None:
        self._env.check_process()


def _check_directory(path: Path, create: bool) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"token store {path} is a file: a store is a directory")
    if (path / "data.mdb").is_file():
        return
    if (left_by_compaction(path) / "data.mdb").is_file() and not path.exists():
        raise StoreError(
            f"token store {path} was being compacted, and that was killed: "
            f"`rankport store compact {quote(str(path))}` puts it back"
        )
    if not create and (path / _DATASET_FILE).is_file():
        raise StoreError(
            f"{path} is a dataset, for other tools: `rankport store copy {quote(str(path))} STORE` makes a store of it"
        )
    if not create:
        raise StoreError(
            f"no token store at {path}: make one with `rankport encode --store {quote(str(path))}`"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        others = sorted({entry.name for entry in path.iterdir()} - _LMDB_FILES)
    except OSError as error:
        raise StoreError(f"token store {path} cannot be made: {reason_of(error)}") from error
    if others:
        raise StoreError(f"{path} holds {others[0]!r}: a new token store needs an empty directory")
