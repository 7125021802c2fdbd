"""Servers for tests of the server and of the clients: of deterministic models in process, of bundles in another."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import grpc

from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicEncoder, DeterministicRanker

RANKPORT = (sys.executable, "-W", "error", "-c", "from rankport.sdk.cli import main; main()")
LOCAL = ServerConfig(port=0, grace_s=5.0)
HTTP = ServerConfig(port=0, http_port=0, grace_s=5.0)
GRPCIO = tuple(map(int, grpc.__version__.split(".")[:2]))


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server with one ranker and one encoder."""

    server: Server
    ranker: DeterministicRanker
    encoder: DeterministicEncoder

    @property
    def address(self) -> str:
        return self.server.address


@contextmanager
def serving(config: ServerConfig = LOCAL, *, max_queued: int = 1000) -> Iterator[Serving]:
    """Serves until the end of the block; the gates of the models are opened then."""
    ranker, encoder = DeterministicRanker(max_queued=max_queued), DeterministicEncoder()
    with ExitStack() as stack:
        server = Server({"ranker": ranker, "encoder": encoder}, config)
        stack.enter_context(server)
        for model in (ranker, encoder):
            stack.callback(model.worker.gate.set)
        yield Serving(server, ranker, encoder)
    ranker.close()
    encoder.close()


@dataclass(frozen=True, slots=True)
class Command:
    """`rankport serve` and what it said until it was ready."""

    process: "subprocess.Popen[str]"
    lines: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return str(self.lines[-1]["address"])


@contextmanager
def serve(*arguments: object) -> Iterator[Command]:
    """Serves bundles by the command, on a free port, until the end of the block."""
    command = [*RANKPORT, "serve", *map(str, arguments)]
    command += ["--port", "0", "--threads", "1", "--json-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Command(process, _until_ready(process.stdout))
        finally:
            process.kill()


def _until_ready(output: IO[str]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for line in output:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "ready":
            return lines
    raise AssertionError(f"ended before it was ready, after {lines}")
