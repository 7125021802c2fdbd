"""Main function of the processes that a supervisor starts: takes its orders, and ends with it."""

import faulthandler
import os
import shutil
import signal
import sys
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rankport.protos.errors import RankportError
from rankport.runtime.server.logs import log_to_stderr
from rankport.runtime.server.processes.channel import Channel
from rankport.runtime.server.processes.control import EngineOrders, FrontOrders, NotStarted, Started
from rankport.runtime.server.processes.pulse import Heart, Pulse

Heard = SimpleQueue[Any]


def main() -> None:
    """Works as ordered over the first descriptor that the command line names, and beats in the second."""
    # The supervisor is who says when to stop; signals that reach the whole group would end this one too early.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)  # by which who hangs is asked where
    heart = _heart(int(sys.argv[2]))
    channel, heard = Channel(int(sys.argv[1])), Heard()
    threading.Thread(target=_listen, args=(channel, heard), name="rankport-control", daemon=True).start()
    orders = heard.get()
    log_to_stderr(orders.logging.json_log, orders.logging.name)
    try:
        if isinstance(orders, EngineOrders):
            _run_engines(orders, channel, heard)
        else:
            _run_front(orders, channel, heard, heart)
    except RankportError as error:
        channel.send(NotStarted(error))
        os._exit(1)
    os._exit(0)  # beside a thread that may still load a model, which nobody waits for


def _heart(fd: int) -> Heart:
    pulse = Pulse(fd, of_child=True)
    os.close(fd)
    return Heart(pulse)


def _listen(channel: Channel, heard: Heard) -> None:
    """Passes on what is said, and ends this process with the supervisor, whatever it is doing."""
    folder: Path | None = None
    try:
        for said in channel.heard():
            if isinstance(said, EngineOrders):
                folder = Path(said.path).parent
            heard.put(said)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # of a supervisor that could not do it itself
    finally:
        os._exit(1)


def _run_engines(orders: EngineOrders, channel: Channel, heard: Heard) -> None:
    from rankport.runtime.kinds.hosted_engine import load_hosted
    from rankport.runtime.server.processes.engine_host import EngineHost
    from rankport.runtime.store.opening import open_store

    if orders.switch_interval_s is not None:
        sys.setswitchinterval(orders.switch_interval_s)
    with ExitStack() as opened:
        store = None
        if orders.store is not None:
            store = opened.enter_context(open_store(orders.store, read_only=True, frozen=orders.frozen))
        load = partial(load_hosted, store=store)
        host = EngineHost(orders.path, orders.config, lambda: os._exit(1), load, orders.hopeless_pass_s)
        channel.send(Started())
        heard.get()
        host.close()


def _run_front(orders: FrontOrders, channel: Channel, heard: Heard, heart: Heart) -> None:
    from rankport.runtime.server.processes.front import Front

    with Front(orders, channel, heart, heard) as front:
        channel.send(front.started())
        while front.follow(heard.get()):
            pass
