"""`Batches`: writes of one process to an encoder's tokens in Redis, counted there, and the version behind each.

Owns how a batch that was confirmed and lost is noticed, and what readers see of a write that ended half way.
"""

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from rankport.protos.errors import StoreError
from rankport.runtime.store.entries import now_s
from rankport.runtime.store.redis_store.connection import Command, RedisConnection
from rankport.runtime.store.redis_store.key_names import KeyNames

VERSION_STALE_S = 0.2
"""How long `version` may not see what another process wrote."""

_WRITER_KEPT_S = 86_400


class Batches:
    """Writer of batches. Any thread may call it."""

    def __init__(
        self, connection: RedisConnection, names: KeyNames, fingerprint: str, *, read_only: bool
    ) -> None:
        self._connection, self._names, self._fingerprint = connection, names, fingerprint
        self._confirming = threading.Lock()  # guards the next three
        self._writer, self._confirmed = self._new_writer(), 0
        self._counted_s = now_s()  # of the writer, or of the last batch that Redis has
        self._version, self._version_s = 0, float("-inf")
        self._owes_version = connection.clustered and not read_only  # a writer may have ended before its own

    def version(self) -> int:
        """Returns a number that differs after every write, of others within `VERSION_STALE_S`."""
        now = time.monotonic()
        if now - self._version_s >= VERSION_STALE_S:
            [value] = self._connection.run([("GET", self._names.version)])
            self._version, self._version_s = int(value or b"0", 16), now
        return self._version

    def settle(self) -> None:
        """Gives a write that may have ended half way its version: what a writer finds unchanged gets none otherwise."""
        if self._owes_version:
            self._owes_version = False
            self._run([("SET", self._names.version, secrets.token_hex(7))])

    def gone(self) -> StoreError:
        """Words the error of an encoder whose tokens are not there any more."""
        return StoreError(
            f"token store {self._connection.location.name}: the tokens of encoder {self._fingerprint} are gone from "
            "Redis (flushed, evicted, dropped, or lost in a restart): encode them again"
        )

    def write(self, commands: Sequence[Command]) -> list[int]:
        """Runs writes with a new version behind them; returns their replies."""
        version, begun_s, (writer, confirmed) = secrets.token_hex(7), now_s(), self._counted()
        counted: list[Command] = [
            ("HEXISTS", self._names.meta, self._fingerprint),
            ("INCR", writer),
            ("EXPIRE", writer, _WRITER_KEPT_S),
        ]
        new_version: list[Command] = [("SET", self._names.version, version)]
        if self._connection.clustered:  # one node may have the version before another has its items
            *replies, there, count, _ = self._run([*commands, *counted])
            self._run(new_version)
        else:
            *replies, there, count, _, _ = self._connection.run([*commands, *counted, *new_version])
        if not there:
            raise self.gone()
        lost = confirmed + 1 - count  # others of this process may have confirmed more meanwhile
        with self._confirming:
            if writer == self._writer:
                self._confirmed = count if lost > 0 else max(self._confirmed, count)
                self._counted_s = max(self._counted_s, begun_s)
        if lost > 0:
            raise StoreError(
                f"token store {self._connection.location.name}: Redis lost {lost} of {confirmed} "
                "batches that it had confirmed (a restart from an older file, or a failover): run again"
            )
        self._version, self._version_s = int(version, 16), time.monotonic()
        return replies

    def _counted(self) -> tuple[bytes, int]:
        """Returns the key that counts the batches, and how many are confirmed.

        It is a new one, of none so far, where Redis may not have the one of before any more: no batch was for long.
        """
        with self._confirming:
            if now_s() - self._counted_s > _WRITER_KEPT_S / 2:
                self._writer, self._confirmed, self._counted_s = self._new_writer(), 0, now_s()
            return self._writer, self._confirmed

    def _new_writer(self) -> bytes:
        return self._names.writer(secrets.token_hex(8))

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Runs a part of a write to a cluster: if it fails, what others did has no version."""
        try:
            return self._connection.run(commands)
        except BaseException:
            self._owes_version = True
            raise
