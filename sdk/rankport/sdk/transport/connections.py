"""Connections of both clients: a channel with the stubs of all services, and the process that has it."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar, cast

import grpc

from rankport.protos.processes.own_process import OwnProcess
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.sdk.transport.access import Token, authorized
from rankport.sdk.transport.channels import ChannelOptions

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Connection:
    """Channel of the client that blocks."""

    channel: grpc.Channel
    process: OwnProcess
    scoring: pb_grpc.ScoringStub
    embedding: pb_grpc.EmbeddingStub
    tagging: pb_grpc.TaggingStub
    classification: pb_grpc.ClassificationStub
    generation: pb_grpc.GenerationStub
    set_ranking: pb_grpc.SetRankingStub
    models: pb_grpc.ModelsStub
    admin: pb_grpc.ModelAdminStub
    jobs: pb_grpc.JobsStub

    @classmethod
    def over(cls, channel: grpc.Channel, token: Token | None = None) -> "Connection":
        """Makes the stubs of a channel of this process, whose calls all carry the token."""
        calls = authorized(channel, token)
        return cls(
            channel,
            OwnProcess(),
            pb_grpc.ScoringStub(calls),
            pb_grpc.EmbeddingStub(calls),
            pb_grpc.TaggingStub(calls),
            pb_grpc.ClassificationStub(calls),
            pb_grpc.GenerationStub(calls),
            pb_grpc.SetRankingStub(calls),
            pb_grpc.ModelsStub(calls),
            pb_grpc.ModelAdminStub(calls),
            pb_grpc.JobsStub(calls),
        )

    @classmethod
    def to(
        cls,
        uri: str,
        credentials: grpc.ChannelCredentials | None,
        options: ChannelOptions,
        token: Token | None,
    ) -> "Connection":
        """Connects, with the first call."""
        if credentials is None:
            return cls.over(grpc.insecure_channel(uri, options), token)
        return cls.over(grpc.secure_channel(uri, credentials, options), token)


@dataclass(frozen=True, slots=True)
class AsyncConnection:
    """Channel of one event loop."""

    channel: grpc.aio.Channel
    process: OwnProcess
    scoring: "pb_grpc.ScoringAsyncStub"
    embedding: "pb_grpc.EmbeddingAsyncStub"
    tagging: "pb_grpc.TaggingAsyncStub"
    classification: "pb_grpc.ClassificationAsyncStub"
    generation: "pb_grpc.GenerationAsyncStub"
    set_ranking: "pb_grpc.SetRankingAsyncStub"
    models: "pb_grpc.ModelsAsyncStub"

    @classmethod
    def over(cls, channel: grpc.aio.Channel, token: Token | None = None) -> "AsyncConnection":
        """Makes the stubs of a channel of this process, whose calls all carry the token."""
        calls = authorized(channel, token)
        # These classes exist in the stubs' types only.
        return cls(
            channel,
            OwnProcess(),
            cast("pb_grpc.ScoringAsyncStub", pb_grpc.ScoringStub(calls)),
            cast("pb_grpc.EmbeddingAsyncStub", pb_grpc.EmbeddingStub(calls)),
            cast("pb_grpc.TaggingAsyncStub", pb_grpc.TaggingStub(calls)),
            cast("pb_grpc.ClassificationAsyncStub", pb_grpc.ClassificationStub(calls)),
            cast("pb_grpc.GenerationAsyncStub", pb_grpc.GenerationStub(calls)),
            cast("pb_grpc.SetRankingAsyncStub", pb_grpc.SetRankingStub(calls)),
            cast("pb_grpc.ModelsAsyncStub", pb_grpc.ModelsStub(calls)),
        )

    @classmethod
    def to(
        cls,
        uri: str,
        credentials: grpc.ChannelCredentials | None,
        options: ChannelOptions,
        token: Token | None,
    ) -> "AsyncConnection":
        """Connects, with the first call."""
        if credentials is None:
            return cls.over(grpc.aio.insecure_channel(uri, options), token)
        return cls.over(grpc.aio.secure_channel(uri, credentials, options), token)


def responses_of(call: "grpc._CallIterator[AnswerT]", address: str) -> Generator[AnswerT, None, None]:
    """Yields the responses of a stream, and ends it with them. Raises `Unavailable` in a forked child."""
    process = OwnProcess()
    try:
        yield from process.steps(call, f"a stream of {address} was begun", "begin it")
    finally:
        if not process.forked:
            call.cancel()
