"""A front that stops while it is told something: a call that waits for that is answered."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import cast

from rankport.protos.versions import AliasTarget, ModelAlias
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.processes.channel import Channel
from rankport.runtime.server.processes.control import Asked, FrontOrders, Logging, Stop, Stopped, Told
from rankport.runtime.server.processes.front import Front
from rankport.runtime.server.processes.pulse import Heart
from rankport.sdk import Client
from support.engines import WAIT_S
from support.servers.supervised import ONE_THREAD


class _Heart:
    """Heart that nobody looks at."""

    supervisor_silent_s = 0.0


def test_what_came_of_an_order_reaches_its_caller_while_the_front_stops(encoder_bundle: Bundle) -> None:
    ours, theirs = socket.socketpair()
    supervisor, channel = Channel(ours.detach()), Channel(theirs.detach())
    heard, said = SimpleQueue[object](), supervisor.heard()
    server = ServerConfig(port=0, grace_s=WAIT_S, is_front=True)
    bundles = (str(encoder_bundle.path),)
    orders = FrontOrders(bundles, None, False, False, server, ONE_THREAD, Logging(False, "front 0"))
    alias = ModelAlias("prod", (AliasTarget("any@1"),))
    with Front(orders, channel, cast(Heart, _Heart()), heard) as front, ThreadPoolExecutor(1) as calling:

        def follow() -> None:
            while front.follow(heard.get()):
                pass

        following = threading.Thread(target=follow)
        following.start()
        port = front.started().ports
        assert port is not None
        with Client(f"127.0.0.1:{port.grpc}", timeout_s=WAIT_S) as client:
            call = calling.submit(client.admin.set_alias, "prod", "any@1")
            asked = next(said)
            assert isinstance(asked, Asked)
            heard.put(Stop(WAIT_S))
            heard.put(Told(asked.number, alias))
            assert call.result(WAIT_S) == alias
        assert isinstance(next(said), Stopped)
        following.join(WAIT_S)
        assert not following.is_alive()
    for end in (supervisor, channel):
        end.close()
