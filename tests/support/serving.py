"""Servers of deterministic models, for tests of the server and of the clients."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from support.deterministic_models import DeterministicEncoder, DeterministicRanker

LOCAL = ServerConfig(port=0, grace_s=5.0)


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
