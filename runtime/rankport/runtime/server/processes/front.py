"""`Front`: a server in a process of its own, whose engines are in other processes."""

from contextlib import ExitStack
from typing import Self

from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.observing.exporting import traces_exported
from rankport.runtime.server.processes.control import FrontOrders, Started, Stopped
from rankport.runtime.server.server import Server


class Front:
    """A server as ordered, from the start of the block to its end."""

    def __init__(self, orders: FrontOrders) -> None:
        self._orders = orders
        self._open = ExitStack()
        self._server: Server

    def __enter__(self) -> Self:
        """Answers from now on. Raises as `ModelLoader` and `Server`."""
        orders = self._orders
        with ExitStack() as opened:
            opened.enter_context(traces_exported())
            loader = opened.enter_context(
                ModelLoader.opened(
                    orders.store,
                    orders.engine,
                    frozen=orders.frozen,
                    write_back=orders.write_back,
                    roots=orders.server.model_roots,
                )
            )
            self._server = opened.enter_context(
                Server(loader.load_all(orders.bundles), orders.server, loader)
            )
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def started(self) -> Started:
        """Tells where it answers, and what."""
        return Started(self._server.ports, self._server.models, self._server.metrics_port)

    def stop(self, grace_s: float | None) -> Stopped:
        """Stops in good order, and tells how its calls ended."""
        self._server.stop(grace_s)
        return Stopped({str(name): number for name, number in self._server.counts.snapshot().items()})
