"""Messages of streams are left unread while there is no room for them, though not for long."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.streams import StreamMessages
from rankport.runtime.server.lifecycle.loader import NoLoader
from rankport.runtime.server.models.models import ServedModels
from support.servers.deterministic_models import DeterministicRanker


class Client:
    """A client whose messages are counted as they are asked for."""

    asked = 0

    async def messages(self) -> AsyncIterator[int]:
        while self.asked < 5:
            self.asked += 1
            yield self.asked


@pytest.fixture
def core() -> Core:
    config = ServerConfig(port=0, max_pending_calls=1)
    return Core.of(ServedModels({"ranker": DeterministicRanker()}, 0), NoLoader(), config)


def test_a_message_is_read_once_there_is_room(core: Core) -> None:
    async def run() -> None:
        client = Client()
        messages = aiter(StreamMessages(client.messages(), core, "scores"))
        assert await anext(messages) == 1
        with core.admission.admitted(10):
            second = asyncio.ensure_future(anext(messages))
            for _ in range(100):
                await asyncio.sleep(0)
            assert client.asked == 1
        assert await second == 2

    asyncio.run(run())


def test_a_message_is_read_though_there_is_no_room_in_the_end(core: Core) -> None:
    async def run() -> None:
        messages = aiter(StreamMessages(Client().messages(), core, "scores"))
        with core.admission.admitted(10):
            assert await anext(messages) == 1

    asyncio.run(run())
