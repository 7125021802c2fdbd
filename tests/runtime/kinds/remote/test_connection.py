"""A connection to an engine that sends what is no message: whoever waits is told, and it connects anew."""

import socket
import threading
from pathlib import Path

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.kinds.remote.connection import Connection
from rankport.runtime.kinds.remote.messages import EngineOrder, EngineState, Message, nothing_counted
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.frames import INLINE, Frame
from rankport.runtime.links.link import Link
from support.engines import WAIT_S


def test_what_cannot_be_read_ends_its_requests_and_the_engine_is_connected_to_anew(tmp_path: Path) -> None:
    path, asked, again = str(tmp_path / "engine"), threading.Event(), threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def opened() -> tuple[Link, socket.socket]:
            sock, _ = listening.accept()
            raw, link = sock.dup(), Link.accept(sock)
            link.send(Message.OPENED, 0, Columns(EngineState(True, nothing_counted("cpu"), None).values()))
            return link, raw

        def answer() -> None:
            first, raw = opened()
            assert asked.wait(WAIT_S)
            for part in Frame(Message.ANSWER, 1, b"no head of columns", 0, INLINE, b"").parts():
                raw.sendall(part)
            second, other = opened()
            again.set()
            for end in (first, second, raw, other):
                end.close()

        thread = threading.Thread(target=answer)
        thread.start()
        connection = Connection(path, EngineOrder("", "", ""), 2**17)
        future = connection.submit(Columns(), 1)
        asked.set()
        with pytest.raises(Unavailable, match="started again"):
            future.result(WAIT_S)
        assert again.wait(WAIT_S)
        connection.close(0.0)
        thread.join(WAIT_S)
    assert not thread.is_alive()
