"""`Front`: a server in a process of its own, whose engines are in other processes."""

import asyncio
import itertools
import logging
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Self

from rankport.protos.errors import BackendError, RankportError
from rankport.protos.versions import ModelAlias, ModelVersion
from rankport.runtime.server.lifecycle.orders import AdminOrder
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.observing.exporting import traces_exported
from rankport.runtime.server.processes.channel import Channel
from rankport.runtime.server.processes.control import (
    Asked,
    Changed,
    FrontOrders,
    Started,
    Stop,
    Stopped,
    Take,
    Told,
    Took,
)
from rankport.runtime.server.server import Server

_log = logging.getLogger(__name__)


class Front:
    """A server as ordered, from the start of the block to its end."""

    def __init__(self, orders: FrontOrders, channel: Channel) -> None:
        self._orders, self._channel = orders, channel
        self._numbers = itertools.count()
        self._asked: dict[int, Future[ModelVersion | ModelAlias]] = {}
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
            models = loader.load_all(orders.bundles)
            self._server = opened.enter_context(Server(models, orders.server, loader, self._ask))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def started(self) -> Started:
        """Tells where it answers, and what."""
        return Started(self._server.ports, self._server.models, self._server.metrics_port)

    def follow(self, said: object) -> bool:
        """Does what the supervisor says; False once it has stopped."""
        match said:
            case Stop(grace_s):
                self._server.stop(grace_s)
                counts = self._server.counts.snapshot()
                self._channel.send(Stopped({str(name): number for name, number in counts.items()}))
                return False
            case Take(number, order):
                self._server.take(order).add_done_callback(partial(self._took, number))
            case Told(number, changed):
                _resolve(self._asked.pop(number), changed)
        return True

    async def _ask(self, order: AdminOrder) -> ModelVersion | ModelAlias:
        """Has all fronts take an order. Goes on if the wait is cancelled. Raises as `Lifecycle`."""
        number = next(self._numbers)
        future = self._asked[number] = Future()
        self._channel.send(Asked(number, order))
        return await asyncio.shield(asyncio.wrap_future(future))

    def _took(self, number: int, future: "Future[ModelVersion | ModelAlias]") -> None:
        error = future.exception()
        self._channel.send(Took(number, future.result() if error is None else _plain(error)))


def _plain(error: BaseException) -> RankportError:
    if isinstance(error, RankportError):
        return error
    _log.error("an order failed on a bug", exc_info=error)
    return BackendError(f"the order failed: {type(error).__name__}: {error}")


def _resolve(future: "Future[ModelVersion | ModelAlias]", changed: Changed) -> None:
    if isinstance(changed, RankportError):
        future.set_exception(changed)
    else:
        future.set_result(changed)
