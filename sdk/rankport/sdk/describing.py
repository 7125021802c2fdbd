"""Calls of both clients that describe a server's models."""

from rankport.protos.messages import wire
from rankport.protos.messages.wire_parts import message_of
from rankport.protos.types import ModelDescription
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk.calls import Calls, CallsInLoops


class Describes(Calls):
    """Calls of the client that blocks."""

    def describe(self, model: str | None = None) -> ModelDescription:
        """Describes the client's model, or the named one."""
        request = message_of(pb.DescribeModelRequest, model=self._model if model is None else model)
        return wire.description_value(
            self._answer(lambda to: to.models.Describe, request, self._timeout(None))
        )

    def models(self) -> tuple[ModelDescription, ...]:
        """Describes all models of the server."""
        response = self._answer(lambda to: to.models.List, pb.ListModelsRequest(), self._timeout(None))
        return tuple(map(wire.description_value, response.models))


class DescribesInLoops(CallsInLoops):
    """Calls of the asyncio client."""

    async def describe(self, model: str | None = None) -> ModelDescription:
        """Describes as `Client.describe`."""
        request = message_of(pb.DescribeModelRequest, model=self._model if model is None else model)
        return wire.description_value(
            await self._answer(lambda to: to.models.Describe, request, self._timeout(None))
        )

    async def models(self) -> tuple[ModelDescription, ...]:
        """Describes all models, as `Client.models`."""
        response = await self._answer(lambda to: to.models.List, pb.ListModelsRequest(), self._timeout(None))
        return tuple(map(wire.description_value, response.models))
