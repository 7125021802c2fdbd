"""Whether a server's event loop goes on, as who watches it asks."""

import threading

from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker
from support.servers.serving import LOCAL
from support.servers.supervised import eventually


class HoldsUp(DeterministicRanker):
    """A model that the event loop looks at, and waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on, self.held = threading.Event(), threading.Event()
        self.goes_on.set()

    @property
    def alive(self) -> bool:
        if not self.goes_on.is_set():
            self.held.set()
        return self.goes_on.wait()


def test_a_server_responds_but_for_while_something_holds_up_its_event_loop() -> None:
    model = HoldsUp()
    server = Server({"ranker": model}, LOCAL)
    assert server.responds()
    with server:
        for _ in range(3):
            eventually(server.responds)
        model.goes_on.clear()
        assert model.held.wait(30.0)
        server.responds()
        assert [server.responds() for _ in range(3)] == [False] * 3
        model.goes_on.set()
        eventually(server.responds)
    assert [server.responds() for _ in range(3)] == [True] * 3
    model.close()


def test_a_server_that_is_held_up_as_it_starts_does_not_respond() -> None:
    model = HoldsUp()
    model.goes_on.clear()
    server = Server({"ranker": model}, LOCAL)
    starting = threading.Thread(target=server.start)
    starting.start()
    assert model.held.wait(30.0)
    server.responds()
    assert [server.responds() for _ in range(3)] == [False] * 3
    model.goes_on.set()
    starting.join(30.0)
    eventually(server.responds)
    server.stop()
    model.close()
