"""Client for asyncio: `Client` with `async` in front."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Self, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from rankport.protos import class_wire, tag_wire, wire
from rankport.protos.arguments import checked_items, checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.features import FeatureColumns
from rankport.protos.ranking import Ranking, check_top_k
from rankport.protos.tagging import TagResult, TagTexts, TagTruncation
from rankport.protos.types import (
    EncodedText,
    Features,
    Item,
    ModelDescription,
    OnMissing,
    Prefix,
    Query,
    ScoreResult,
    Side,
    Truncation,
)
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.sdk._remote import (
    ChannelOptions,
    ChunkRequests,
    Text,
    channel_options,
    checked_address,
    rankport_errors,
)


class AsyncClient:
    """Connection to a rankport server, for the event loop it is made in.

    >>> async with AsyncClient("localhost:8500", timeout_s=1.0) as client:
    ...     (await client.score("nurse", ["hospital nurse", "welder"])).scores

    Arguments, results and errors are those of `Client`. Cancelling a call's task cancels its work at the server.
    """

    def __init__(
        self,
        address: str,
        model: str = "",
        timeout_s: float | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: ChannelOptions = (),
    ) -> None:
        """Connects as `Client`; must be called in a running event loop."""
        self._address = checked_address(address)
        self._model = model
        self._timeout_s = checked_timeout_s(timeout_s)
        merged = channel_options(options)
        self._channel = (
            grpc.aio.secure_channel(address, credentials, merged)
            if credentials
            else grpc.aio.insecure_channel(address, merged)
        )
        # These classes exist in the stubs' types only.
        self._scoring = cast("pb_grpc.ScoringAsyncStub", pb_grpc.ScoringStub(self._channel))
        self._embedding = cast("pb_grpc.EmbeddingAsyncStub", pb_grpc.EmbeddingStub(self._channel))
        self._tagging = cast("pb_grpc.TaggingAsyncStub", pb_grpc.TaggingStub(self._channel))
        self._classification = cast(
            "pb_grpc.ClassificationAsyncStub", pb_grpc.ClassificationStub(self._channel)
        )
        self._models = cast("pb_grpc.ModelsAsyncStub", pb_grpc.ModelsStub(self._channel))

    async def score(
        self,
        prefix: Query,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> ScoreResult:
        """Scores as `Client.score`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.score_request(self._model, prefix, items, truncation, on_missing, features)
        with rankport_errors(self._address, timeout_s):
            response = await self._scoring.Score(request, timeout=timeout_s)
        return wire.score_result(response)

    async def rank(
        self,
        prefix: Query,
        items: Iterable[Item],
        top_k: int | None = None,
        return_items: bool = False,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> Ranking:
        """Ranks as `Client.rank`."""
        check_top_k(top_k)
        given = checked_items(items)
        result = await self.score(
            prefix, given, timeout_s, truncation=truncation, on_missing=on_missing, features=features
        )
        return Ranking.of(result, given if return_items else None, top_k)

    async def classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> ClassifyResult:
        """Classifies as `Client.classify`."""
        timeout_s = self._timeout(timeout_s)
        request = class_wire.classify_request(self._model, texts, prefix, truncation)
        with rankport_errors(self._address, timeout_s):
            response = await self._classification.Classify(request, timeout=timeout_s)
        return class_wire.classify_result(response)

    async def encode(
        self,
        texts: Iterable[Text],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> NDArray[np.floating]:
        """Encodes as `Client.encode`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.encode_request(self._model, texts, truncation, side)
        with rankport_errors(self._address, timeout_s):
            response = await self._embedding.Encode(request, timeout=timeout_s)
        return wire.encode_result(response)

    async def encode_stream(
        self,
        texts: AsyncIterable[tuple[str, Text]] | Iterable[tuple[str, Text]],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        chunk_texts: int = 64,
        side: Side | None = None,
    ) -> AsyncIterator[EncodedText]:
        """Encodes as `Client.encode_stream`."""
        timeout_s = checked_timeout_s(timeout_s)
        requests = ChunkRequests(self._model, truncation, chunk_texts, side)
        drawn = requests.drawn_async(texts) if isinstance(texts, AsyncIterable) else requests.drawn(texts)
        with rankport_errors(self._address, timeout_s):
            call = self._embedding.EncodeStream(drawn, timeout=timeout_s)
            try:
                async for response in call:
                    for result in wire.stream_results(response):
                        yield result
            finally:
                call.cancel()
        requests.raise_error()

    async def tag(
        self,
        texts: Iterable[str | Sequence[str]],
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
    ) -> TagResult:
        """Tags as `Client.tag`."""
        timeout_s = self._timeout(timeout_s)
        given = TagTexts.of(texts)
        request = tag_wire.tag_request(self._model, given, truncation, stride)
        with rankport_errors(self._address, timeout_s):
            response = await self._tagging.Tag(request, timeout=timeout_s)
        return tag_wire.tag_result(response, given)

    async def describe(self, model: str | None = None) -> ModelDescription:
        """Describes as `Client.describe`."""
        request = pb.DescribeModelRequest(model=self._model if model is None else model)
        with rankport_errors(self._address, self._timeout_s):
            response = await self._models.Describe(request, timeout=self._timeout_s)
        return wire.description_value(response)

    async def models(self) -> tuple[ModelDescription, ...]:
        """Describes all models, as `Client.models`."""
        with rankport_errors(self._address, self._timeout_s):
            response = await self._models.List(pb.ListModelsRequest(), timeout=self._timeout_s)
        return tuple(map(wire.description_value, response.models))

    async def close(self) -> None:
        """Ends the connection; calls in progress raise `RequestCancelled`."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _timeout(self, timeout_s: float | None) -> float | None:
        return self._timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
