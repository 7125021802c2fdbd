"""Main function of the processes that a supervisor starts: takes its orders, and ends with it."""

import gc
import logging
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from rankport.protos.errors import RankportError
from rankport.runtime.server.logs import log_to_stderr
from rankport.runtime.server.processes.control import (
    EngineOrders,
    FrontOrders,
    Logging,
    NotStarted,
    Started,
    Stop,
)

_log = logging.getLogger(__name__)


def main() -> None:
    """Works as ordered over the descriptor that the command line names."""
    # The supervisor is who says when to stop; signals that reach the whole group would end this one too early.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    control: Connection[Any, Any] = Connection(int(sys.argv[1]))
    try:
        orders = control.recv()
        _set_up_log(orders.logging)
        if isinstance(orders, EngineOrders):
            _run_engines(orders, control)
        else:
            _run_front(orders, control)
    except (EOFError, ConnectionError):
        os._exit(1)  # the supervisor is gone: nobody would end this one any more
    except RankportError as error:
        control.send(NotStarted(error))
        os._exit(1)


def _set_up_log(wanted: Logging) -> None:
    log_to_stderr(wanted.json_log, wanted.name)


def _run_engines(orders: EngineOrders, control: "Connection[Any, Any]") -> None:
    from rankport.runtime.server.processes.engine_host import EngineHost

    host = EngineHost(orders.path, orders.config, lambda: os._exit(1))
    gc.freeze()
    control.send(Started())
    control.recv()
    host.close()


def _run_front(orders: FrontOrders, control: "Connection[Any, Any]") -> None:
    from rankport.runtime.server.processes.front import Front

    with Front(orders) as front:
        control.send(front.started())
        said = control.recv()
        assert isinstance(said, Stop)
        control.send(front.stop(said.grace_s))
