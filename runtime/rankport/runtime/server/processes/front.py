"""`Front`: a server in a process of its own, whose engines are in other processes."""

import asyncio
import itertools
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Self

from rankport.protos.errors import BackendError, RankportError
from rankport.protos.versions import ModelAlias, ModelVersion
from rankport.runtime.server.lifecycle.orders import AdminOrder, Others
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.observing.exporting import traces_exported
from rankport.runtime.server.observing.joined_pages import joined
from rankport.runtime.server.processes.channel import Channel
from rankport.runtime.server.processes.control import (
    Asked,
    AskPages,
    Changed,
    FrontOrders,
    GivePage,
    Page,
    Pages,
    Started,
    Stop,
    Stopped,
    Take,
    Told,
    Took,
)
from rankport.runtime.server.processes.pulse import Heart
from rankport.runtime.server.server import Server

_PAGES_S = 1.0  # for the other fronts to say their metrics
_PATIENCE = 3  # times as long as a supervisor has with its children, have they with it
_log = logging.getLogger(__name__)


class Front:
    """A server as ordered, from the start of the block to its end."""

    def __init__(
        self, orders: FrontOrders, channel: Channel, heart: Heart, heard: "SimpleQueue[object]"
    ) -> None:
        """Takes the queue of what it is to `follow`, in which it puts its own end."""
        self._orders, self._channel, self._heart, self._heard = orders, channel, heart, heard
        self._numbers = itertools.count()
        self._asked: dict[int, Future[ModelVersion | ModelAlias]] = {}
        self._pages: dict[int, Future[Mapping[str, bytes]]] = {}
        self._open = ExitStack()
        self._stopping = False
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
            self._server = Server(models, orders.server, loader, Others(self._ask, self._join, self._live))
            self._heart.goes_on = self._server.responds
            opened.enter_context(self._server)
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
            case Stop(grace_s):  # beside what is still said: calls wait for that
                self._stopping = True
                threading.Thread(target=self._stop, args=(grace_s,), name="rankport-stop").start()
            case Stopped():
                self._channel.send(said)
                return False
            case Take() if self._stopping:  # it has an answer when this process ends
                pass
            case Take(number, order):
                self._server.take(order).add_done_callback(partial(self._took, number))
            case GivePage(number):
                self._channel.send(Page(number, self._page()))
            case Pages(number, pages):
                if (future := self._pages.pop(number, None)) is not None:
                    future.set_result(pages)
            case Told(number, changed):
                _resolve(self._asked.pop(number), changed)
        return True

    def _page(self) -> bytes:
        """Writes its metrics; none where that fails, which is no reason to end."""
        try:
            return self._server.own_page()
        except Exception:
            _log.exception("the metrics could not be written")
            return b""

    def _stop(self, grace_s: float | None) -> None:
        self._server.stop(grace_s)
        counts = self._server.counts.snapshot()
        self._heard.put(Stopped({str(name): number for name, number in counts.items()}))

    async def _ask(self, order: AdminOrder) -> ModelVersion | ModelAlias:
        """Has all fronts take an order. Goes on if the wait is cancelled. Raises as `Lifecycle`."""
        number = next(self._numbers)
        future = self._asked[number] = Future()
        self._channel.send(Asked(number, order))
        return await asyncio.shield(asyncio.wrap_future(future))

    def _join(self, own_page: bytes) -> bytes:
        """Joins a page of metrics with those of the other processes, as far as they answer in time."""
        name, number = self._orders.logging.name, next(self._numbers)
        future = self._pages[number] = Future()
        self._channel.send(AskPages(number))
        try:
            others = future.result(_PAGES_S)
        except TimeoutError:
            self._pages.pop(number, None)
            others = {}
        own_page += others.get(name, b"")
        return joined(dict(sorted({**others, name: own_page}.items())), name)

    def _live(self) -> bool:
        """Says whether the supervisor starts what ends, and stops in good order: as long as it gives signs of life."""
        limit_s = _PATIENCE * self._orders.server.observing.hung_process_s
        return not limit_s or self._heart.supervisor_silent_s < limit_s

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
