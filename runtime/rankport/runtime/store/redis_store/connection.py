"""`RedisConnection`: commands to a server or cluster of Redis, tried again while it cannot be reached.

Owns connections, retries and what a batch of commands is: on one server a transaction; in a cluster a pipeline to each
node. Which commands they are is its callers'.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.store.redis_store.causes import UNREACHABLE, failure, is_final
from rankport.runtime.store.redis_store.location import RedisLocation

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0
_START_S = 2.0  # a server that is not there is told within, unless the URL's `retry_s` says to wait for it
_KEYS_PER_SCAN = 1000

Command = tuple[bytes | str | int, ...]
T = TypeVar("T")


class RedisConnection:
    """Connections to one server or cluster. Any thread may call it."""

    def __init__(self, location: RedisLocation, retry_s: float) -> None:
        """Connects. Raises `StoreError` where no server answers within two seconds, or it refuses.

        One that goes away later is waited for `retry_s` seconds, or as long as the URL says, which holds for the start
        too. One that still loads its data is there.
        """
        self.location = location
        self._retry_s = location.retry_s or retry_s
        self._process = OwnProcess()
        self._closed = threading.Event()
        self._cluster: Any = None  # a RedisCluster, whose types are few
        try:
            self._client: Any = redis.Redis.from_url(location.url, **self._options())
        except ValueError as error:
            raise InvalidRequest(f"{location.told}: {error}") from error
        try:
            self._retried(self._greet, limit_s=min(self._retry_s, location.retry_s or _START_S))
            if self.info("cluster").get("cluster_enabled"):
                self._cluster = self._retried(self._clustered)
        except BaseException:
            self.close()
            raise

    @property
    def clustered(self) -> bool:
        """True where the keys lie on several nodes."""
        return self._cluster is not None

    def info(self, section: str) -> dict[str, Any]:
        """Reads a section of the server's facts; raises as `run`."""
        return dict(self._retried(lambda: self._client.info(section)))

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Runs commands, all of one moment unless in a cluster; returns their replies.

        A connection that breaks leaves open whether they ran: they run again, so each must bear that.

        Raises:
            StoreError: no answer for the time of its retries, a command failed, or the store is closed.
        """
        return self._retried(lambda: self._run(commands)) if commands else []

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Yields the keys of a pattern, some more than once; raises as `run`."""
        for node in self._nodes():
            cursor = 0
            while True:
                cursor, keys = self._retried(partial(self._scan, node, cursor, pattern))
                yield keys
                if cursor == 0:
                    break

    def look(self, command: Command) -> Any:
        """Runs one command with a single try; raises `StoreError`."""
        return self._retried(lambda: self._run([command])[0], tries=1)

    @property
    def open(self) -> bool:
        """False once it is closed."""
        return not self._closed.is_set()

    def check_process(self) -> None:
        """Raises `StoreError` in a forked child."""
        if self._process.forked:
            raise StoreError(f"{self.location.told} was opened before a fork: open it in the child process")

    def close(self) -> None:
        """Closes the connections. Closing twice does nothing."""
        self._closed.set()
        if self._cluster is not None:
            self._cluster.close()
        self._client.close()

    def _greet(self) -> None:
        """Asks for an answer, whatever it is, by a connection of its own, which waits no longer than a start does."""
        seconds = min(self.location.timeout_s, self.location.retry_s or _START_S)
        limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        with redis.Redis.from_url(self.location.url, **(self._options() | limits)) as client:
            try:
                client.ping()
            except (exceptions.BusyLoadingError, exceptions.NoPermissionError):
                return

    def _options(self) -> dict[str, Any]:
        seconds = self.location.timeout_s
        # Retries are `_retried`'s: one place, one limit of time.
        none = Retry(NoBackoff(), 0)
        given = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": none, "protocol": 2}
        # Older clients took any name of a certificate that was not told to be looked at.
        return given | ({"ssl_check_hostname": True} if self.location.url.startswith("rediss:") else {})

    def _clustered(self) -> RedisCluster:
        return RedisCluster.from_url(self.location.url, **self._options())

    def _nodes(self) -> list[Any]:
        if self._cluster is None:
            return [self._client]
        return [self._cluster.get_redis_connection(node) for node in self._cluster.get_primaries()]

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        client, batch = self._client, {"transaction": True}
        if self._cluster is not None:
            client, batch = self._cluster, {}
        if len(commands) == 1:
            return [client.execute_command(*commands[0])]
        with client.pipeline(**batch) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute())

    @staticmethod
    def _scan(node: Any, cursor: int, pattern: bytes) -> tuple[int, list[bytes]]:
        after, keys = node.scan(cursor, match=pattern, count=_KEYS_PER_SCAN)
        return int(after), list(keys)

    def _retried(self, body: Callable[[], T], tries: int = 0, limit_s: float | None = None) -> T:
        """Calls `body` until it succeeds, fails for good, or its time is up."""
        self.check_process()
        until = time.monotonic() + (self._retry_s if limit_s is None else limit_s)
        wait_s = _FIRST_WAIT_S
        while True:
            if self._closed.is_set():
                raise StoreError(f"{self.location.told} is closed: open it again")
            try:
                return body()
            except exceptions.RedisError as error:
                again = isinstance(error, UNREACHABLE) and not is_final(error)
                if tries == 1 or not again or time.monotonic() + wait_s > until:
                    raise failure(self.location.told, error) from error
            self._closed.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
