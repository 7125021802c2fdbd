"""Client that blocks: `Ranker` and `ItemEncoder` as a server offers them, with the same names and results."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Self

import grpc
import numpy as np
from numpy.typing import NDArray

from rankport.protos import class_wire, tag_wire, wire
from rankport.protos.arguments import checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.features import FeatureColumns
from rankport.protos.ranking import WeighingRanks
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


class Client(WeighingRanks):
    """Connection to a rankport server. Thread-safe; make one per process, not one per request.

    >>> with Client("localhost:8500", timeout_s=1.0) as client:
    ...     client.score("nurse", ["hospital nurse", "welder"]).scores

    Every call raises the `RankportError` that the same call raises in process, and `Unavailable` if the server
    cannot be reached.
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
        """Connects with the first call.

        Args:
            address: host:port, or any gRPC target.
            model: which of the server's models; may stay empty where one model fits the call.
            timeout_s: of calls that give none themselves; None waits for ever.
            credentials: for TLS, e.g. `grpc.ssl_channel_credentials(root_certificates)`.
            options: gRPC channel options, over the defaults.
        """
        self._address = checked_address(address)
        self._model = model
        self._timeout_s = checked_timeout_s(timeout_s)
        merged = channel_options(options)
        self._channel = (
            grpc.secure_channel(address, credentials, merged)
            if credentials
            else grpc.insecure_channel(address, merged)
        )
        self._scoring = pb_grpc.ScoringStub(self._channel)
        self._embedding = pb_grpc.EmbeddingStub(self._channel)
        self._tagging = pb_grpc.TaggingStub(self._channel)
        self._classification = pb_grpc.ClassificationStub(self._channel)
        self._models = pb_grpc.ModelsStub(self._channel)

    def score(
        self,
        prefix: Query,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> ScoreResult:
        """Scores `items` against their shared prefix. Arguments, result and errors are those of `Ranker.score`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.score_request(self._model, prefix, items, truncation, on_missing, features)
        with rankport_errors(self._address, timeout_s):
            response = self._scoring.Score(request, timeout=timeout_s)
        return wire.score_result(response)

    def submit(
        self,
        prefix: Query,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> "Future[ScoreResult]":
        """Scores as `score`, at once with a future. `cancel()` on it cancels the work at the server."""
        timeout_s = self._timeout(timeout_s)
        request = wire.score_request(self._model, prefix, items, truncation, on_missing, features)
        with rankport_errors(self._address, timeout_s):
            call = self._scoring.Score.future(request, timeout=timeout_s)
        future: Future[ScoreResult] = Future()

        def finish(_: object) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with rankport_errors(self._address, timeout_s):
                    response = call.result()
                future.set_result(wire.score_result(response))
            except Exception as error:
                future.set_exception(error)

        future.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)
        call.add_done_callback(finish)
        return future

    def classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> ClassifyResult:
        """Tells the labels of texts or pairs. Arguments, result and errors are those of `Classifier.classify`."""
        timeout_s = self._timeout(timeout_s)
        request = class_wire.classify_request(self._model, texts, prefix, truncation)
        with rankport_errors(self._address, timeout_s):
            response = self._classification.Classify(request, timeout=timeout_s)
        return class_wire.classify_result(response)

    def encode(
        self,
        texts: Iterable[Text],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> NDArray[np.floating]:
        """Encodes texts to tokens [texts, k, hidden], float16 or float32. As `ItemEncoder.encode`, and
        `Towers.encode`, which reads them as items unless `side` says query.
        """
        timeout_s = self._timeout(timeout_s)
        request = wire.encode_request(self._model, texts, truncation, side)
        with rankport_errors(self._address, timeout_s):
            response = self._embedding.Encode(request, timeout=timeout_s)
        return wire.encode_result(response)

    def encode_stream(
        self,
        texts: Iterable[tuple[str, Text]],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        chunk_texts: int = 64,
        side: Side | None = None,
    ) -> Iterator[EncodedText]:
        """Encodes (id, text) pairs in bulk, in order; draws them no faster than the server works.

        A bad text has the status `failed` and the reason as its message; the stream goes on. `timeout_s` is for
        the whole stream, and the client's default does not apply. An error of `texts` itself is raised after
        the results of what came before it.
        """
        timeout_s = checked_timeout_s(timeout_s)
        requests = ChunkRequests(self._model, truncation, chunk_texts, side)
        with rankport_errors(self._address, timeout_s):
            call = self._embedding.EncodeStream(requests.drawn(texts), timeout=timeout_s)
            try:
                for response in call:
                    yield from wire.stream_results(response)
            finally:
                call.cancel()
        requests.raise_error()

    def tag(
        self,
        texts: Iterable[str | Sequence[str]],
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
    ) -> TagResult:
        """Finds the spans of texts, or of texts as lists of words. As `Tagger.tag`."""
        timeout_s = self._timeout(timeout_s)
        given = TagTexts.of(texts)
        request = tag_wire.tag_request(self._model, given, truncation, stride)
        with rankport_errors(self._address, timeout_s):
            response = self._tagging.Tag(request, timeout=timeout_s)
        return tag_wire.tag_result(response, given)

    def describe(self, model: str | None = None) -> ModelDescription:
        """Describes the client's model, or the named one."""
        request = pb.DescribeModelRequest(model=self._model if model is None else model)
        with rankport_errors(self._address, self._timeout_s):
            response = self._models.Describe(request, timeout=self._timeout_s)
        return wire.description_value(response)

    def models(self) -> tuple[ModelDescription, ...]:
        """Describes all models of the server."""
        with rankport_errors(self._address, self._timeout_s):
            response = self._models.List(pb.ListModelsRequest(), timeout=self._timeout_s)
        return tuple(map(wire.description_value, response.models))

    def close(self) -> None:
        """Ends the connection; calls in progress raise `RequestCancelled`."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _timeout(self, timeout_s: float | None) -> float | None:
        return self._timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
