"""`OpenCalls`: calls that need no token, for as long as they hold anything, bounded by connection and all together."""

from collections import Counter

from rankport.protos.errors import Overloaded
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.grpc.calls import Context

_OWN = 4  # calls that a connection has room for whatever others have: probes, and a watch or two


class OpenCalls:
    """Calls of one port. On the server's event loop.

    One counts until its client has the answer, or is gone: a client may leave answers unread, and each is kept for it.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._most, self._together = config.max_connection_streams, config.max_connections
        self._open: Counter[str] = Counter()

    def enter(self, context: Context) -> None:
        """Counts a call until it is done. Raises `Overloaded` if its connection, or all together, have enough."""
        peer = context.peer()
        if peer.startswith("unix"):  # whose connections have all one name
            return
        self._check(self._open[peer])
        self._open[peer] += 1
        # Its stub has a class for the type of a callback.
        context.add_done_callback(lambda _: self._leave(peer))  # type: ignore[arg-type]

    def _check(self, own: int) -> None:
        if own >= self._most:
            raise Overloaded(
                f"the connection has {own} calls open that need no token, the limit is {self._most} "
                "(max_connection_streams): take their answers, or end them"
            )
        if own >= _OWN and (others := self._open.total()) >= self._together:
            raise Overloaded(
                f"connections have {others} calls open that need no token, of {self._together} (max_connections), and "
                f"this one {own}: take their answers, or end them"
            )

    def _leave(self, peer: str) -> None:
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]
