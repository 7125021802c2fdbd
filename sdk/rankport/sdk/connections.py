"""Connections of both clients: a channel with the stubs of all services, and the process that has it."""

from dataclasses import dataclass
from typing import cast

import grpc

from rankport.protos.own_process import OwnProcess
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc


@dataclass(frozen=True, slots=True)
class Connection:
    """Channel of the client that blocks."""

    channel: grpc.Channel
    process: OwnProcess
    scoring: pb_grpc.ScoringStub
    embedding: pb_grpc.EmbeddingStub
    tagging: pb_grpc.TaggingStub
    classification: pb_grpc.ClassificationStub
    models: pb_grpc.ModelsStub
    admin: pb_grpc.ModelAdminStub

    @classmethod
    def over(cls, channel: grpc.Channel) -> "Connection":
        """Makes the stubs of a channel of this process."""
        return cls(
            channel,
            OwnProcess(),
            pb_grpc.ScoringStub(channel),
            pb_grpc.EmbeddingStub(channel),
            pb_grpc.TaggingStub(channel),
            pb_grpc.ClassificationStub(channel),
            pb_grpc.ModelsStub(channel),
            pb_grpc.ModelAdminStub(channel),
        )


@dataclass(frozen=True, slots=True)
class AsyncConnection:
    """Channel of one event loop."""

    channel: grpc.aio.Channel
    process: OwnProcess
    scoring: "pb_grpc.ScoringAsyncStub"
    embedding: "pb_grpc.EmbeddingAsyncStub"
    tagging: "pb_grpc.TaggingAsyncStub"
    classification: "pb_grpc.ClassificationAsyncStub"
    models: "pb_grpc.ModelsAsyncStub"

    @classmethod
    def over(cls, channel: grpc.aio.Channel) -> "AsyncConnection":
        """Makes the stubs of a channel of this process."""
        # These classes exist in the stubs' types only.
        return cls(
            channel,
            OwnProcess(),
            cast("pb_grpc.ScoringAsyncStub", pb_grpc.ScoringStub(channel)),
            cast("pb_grpc.EmbeddingAsyncStub", pb_grpc.EmbeddingStub(channel)),
            cast("pb_grpc.TaggingAsyncStub", pb_grpc.TaggingStub(channel)),
            cast("pb_grpc.ClassificationAsyncStub", pb_grpc.ClassificationStub(channel)),
            cast("pb_grpc.ModelsAsyncStub", pb_grpc.ModelsStub(channel)),
        )
