"""`RedisStore`: embedding tokens of items by key, one namespace for each encoder, in a server or cluster of Redis.

Owns namespaces and their specs. `namespace` reads and writes tokens, `key_names` has the names of the keys,
`connection` retries.

Any number of processes read and write at once. A batch is one transaction on one server; in a cluster its items lie on
several nodes, and each node takes its part.
"""

from collections.abc import Mapping
from shlex import quote
from typing import Final

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.key_names import KeyNames
from rankport.runtime.store.redis_store.location import RedisLocation
from rankport.runtime.store.redis_store.namespace import RedisNamespace
from rankport.runtime.store.refusals import corrupt_spec
from rankport.runtime.store.token_spec import TokenSpec

FORMAT: Final = b'{"format":"rankport-token-store","format_version":1}'
READER_RETRY_S: Final = 1.0
WRITER_RETRY_S: Final = 30.0

_FORMAT_FIELD = b"format"
_PUBLISHED, _FILLING = b"published", b"filling"


class RedisStore(TokenStore):
    """Keys of one prefix in Redis; a context manager."""

    can_hide = True
    counts_by_scan = True

    def __init__(self, connection: RedisConnection, *, read_only: bool) -> None:
        super().__init__(connection.location.name)
        self._connection, self._read_only = connection, read_only
        self._names = KeyNames(connection.location.prefix)

    @classmethod
    def open(cls, location: str, *, create: bool = False, read_only: bool = False) -> "RedisStore":
        """Opens the store at a URL; `create` makes it if there is none.

        Raises:
            InvalidRequest: not a URL of Redis, or `create` with `read_only`.
            StoreError: no server, no store there, a newer format, or, to write, a server that evicts keys.
        """
        where = RedisLocation.parse(location)
        if create and read_only:
            raise InvalidRequest(f"token store {where.name}: a store that is created cannot be read-only")
        return cls._opened(where, create=create, read_only=read_only)

    @classmethod
    def _opened(cls, where: RedisLocation, *, create: bool, read_only: bool) -> "RedisStore":
        connection = RedisConnection(where, READER_RETRY_S if read_only else WRITER_RETRY_S)
        try:
            store = cls(connection, read_only=read_only)
            if not read_only:
                _check_eviction(connection)
            store._check_format(create)
            return store
        except BaseException:
            connection.close()
            raise

    def fingerprints(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens are published.

        Raises:
            StoreError: a spec cannot be read, Redis cannot be read, or the store is closed.
        """
        return self._specs(_PUBLISHED)

    def filling(self) -> Mapping[str, TokenSpec]:
        """Lists the encoders whose tokens are hidden until they are published; raises as `fingerprints`."""
        return self._specs(_FILLING)

    @property
    def writable(self) -> bool:
        """False where the store was opened to be read."""
        return not self._read_only

    def beside(self) -> "RedisStore":
        """Opens the store once more, to write to it, by connections of its own."""
        return self._opened(self._connection.location, create=False, read_only=False)

    def close(self) -> None:
        """Closes the connections. Closing twice does nothing."""
        self._connection.close()

    def _open_namespace(self, fingerprint: str, spec: TokenSpec) -> RedisNamespace:
        return RedisNamespace(self._connection, self._names, fingerprint, spec, read_only=self._read_only)

    def _create_namespace(self, fingerprint: str, spec: TokenSpec) -> None:
        self._set_state(fingerprint, _PUBLISHED, spec, only_new=True)

    def _create_hidden(self, fingerprint: str, spec: TokenSpec) -> None:
        self._set_state(fingerprint, _FILLING, spec, only_new=True)

    def _publish(self, fingerprint: str) -> None:
        self._set_state(fingerprint, _PUBLISHED, self.filling()[fingerprint])

    def _drop(self, fingerprint: str) -> None:
        spec = {**self.fingerprints(), **self.filling()}[fingerprint]
        self._set_state(fingerprint, _FILLING, spec)  # nobody begins to read what goes, and a rerun finds it
        for keys in self._connection.scan(self._names.pattern(fingerprint)):
            self._connection.run([("UNLINK", key) for key in keys])
        self._connection.run([("HDEL", self._names.meta, fingerprint)])

    def _check_process(self) -> None:
        self._connection.check_process()

    def _set_state(self, fingerprint: str, state: bytes, spec: TokenSpec, *, only_new: bool = False) -> None:
        if self._read_only:
            raise StoreError(f"token store {self.location} is open to be read: open it to write")
        command = "HSETNX" if only_new else "HSET"
        self._connection.run([(command, self._names.meta, fingerprint, state + b" " + spec.to_json())])

    def _specs(self, wanted: bytes) -> dict[str, TokenSpec]:
        specs: dict[str, TokenSpec] = {}
        for field, value in self._meta().items():
            state, _, spec = value.partition(b" ")
            if field != _FORMAT_FIELD and state == wanted:
                specs[field.decode()] = self._parse_spec(field.decode(), spec)
        return specs

    def _meta(self) -> dict[bytes, bytes]:
        [meta] = self._connection.run([("HGETALL", self._names.meta)])
        return dict(meta)

    def _parse_spec(self, fingerprint: str, value: bytes) -> TokenSpec:
        try:
            return TokenSpec.from_json(value)
        except (ValueError, TypeError, StoreError) as error:
            raise corrupt_spec(fingerprint, value, self.location) from error

    def _check_format(self, create: bool) -> None:
        if create:
            self._connection.run([("HSETNX", self._names.meta, _FORMAT_FIELD, FORMAT)])
        [value] = self._connection.run([("HGET", self._names.meta, _FORMAT_FIELD)])
        if value is None:
            raise StoreError(
                f"no token store at {self.location} with prefix {self._names.prefix!r}: make one with "
                f"`rankport encode --store {quote(self.location)}`"
            )
        if value != FORMAT:
            raise StoreError(
                f"token store {self.location} has format {value[:200]!r}; this release reads version 1"
            )


def _check_eviction(connection: RedisConnection) -> None:
    """Makes sure that Redis keeps what it is given, unless the URL says that it need not."""
    memory = connection.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    evicts = policy.startswith("allkeys") or (policy.startswith("volatile") and connection.location.ttl_ms)
    if memory.get("maxmemory") and evicts and not connection.location.may_evict:
        raise StoreError(
            f"token store {connection.location.name}: Redis evicts keys when full (maxmemory-policy {policy}), so "
            "items would go missing: set noeviction, or say eviction=accept in the URL"
        )
