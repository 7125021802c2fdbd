"""`ModelAdmin`: versions of a server's models, and aliases that requests find them by, over a client's connection."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import grpc

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import admin_wire
from rankport.protos.messages.wire_parts import message_of
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.protos.versions import AliasTarget, ModelAlias, ModelVersion, ModelVersions
from rankport.sdk.transport.channels import Target

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class Answer(Protocol):
    """Way to call a method and get its answer, with the connection, the retries and the errors of a client."""

    def __call__(
        self,
        method: "Callable[[pb_grpc.ModelAdminStub], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
    ) -> AnswerT: ...


class ModelAdmin:
    """Loads, unloads and renames the models of a server.

    >>> client.admin.load("jobs-v2.bundle", alias="prod")
    >>> client.admin.set_alias("prod", {"jobs@1": 95, "jobs@2": 5})

    A version is named NAME@VERSION. NAME alone is what an alias of that name says, else the version loaded first.
    """

    def __init__(self, target: Target, answer: Answer) -> None:
        """Raises `InvalidRequest` for several servers, any one of which a call would change."""
        if target.several:
            raise InvalidRequest(f"admin: the client asks {target.told} in turn: make one for each server")
        self._answer = answer

    def versions(self, timeout_s: float | None = None) -> ModelVersions:
        """Lists versions, with what each is doing, and aliases."""
        request = pb.ListVersionsRequest()
        return admin_wire.versions_value(self._call(lambda to: to.ListVersions, request, timeout_s))

    def load(
        self,
        path: str,
        name: str = "",
        version: str = "",
        *,
        alias: str = "",
        replace: bool = False,
        timeout_s: float | None = None,
    ) -> ModelVersion:
        """Has the server load a bundle below one of its roots, and returns when it is ready.

        Args:
            path: directory at the server, absolute or below a root.
            name: as which it is loaded; by default that of its manifest, as the version.
            alias: moved to it, whole, once it is ready.
            replace: unload what the alias named before, unless another one names it.

        Raises:
            InvalidRequest: the path is none of the server's, or there is such a version.
            RankportError: as the loading, or its first request; all that is served stays as it is.
        """
        request = message_of(
            pb.LoadModelRequest, path=path, name=name, version=version, alias=alias, replace=replace
        )
        return admin_wire.version_value(self._call(lambda to: to.Load, request, timeout_s))

    def unload(self, model: str, timeout_s: float | None = None) -> ModelVersion:
        """Has the server finish what a version answers, and close it; returns when that is done.

        Raises:
            InvalidRequest: an alias names it.
            NotFound: there is no such version that is ready.
        """
        request = message_of(pb.UnloadModelRequest, model=model)
        return admin_wire.version_value(self._call(lambda to: to.Unload, request, timeout_s))

    def set_alias(
        self, alias: str, to: str | Mapping[str, float], timeout_s: float | None = None
    ) -> ModelAlias:
        """Has an alias stand for a version, or for several by weight: a canary share.

        Requests with an id (`x-request-id` in their metadata) stay with one version, others are drawn.

        Raises:
            InvalidRequest: a weight is not positive, or the versions answer different requests.
            NotFound: a version is not there or not ready.
        """
        shares = {to: 1.0} if isinstance(to, str) else to
        if not shares:
            raise InvalidRequest(f"alias {alias!r} is to stand for nothing: remove_alias does that")
        return self._set(alias, [AliasTarget(model, weight) for model, weight in shares.items()], timeout_s)

    def remove_alias(self, alias: str, timeout_s: float | None = None) -> None:
        """Removes an alias. Raises `NotFound` if there is none of that name."""
        self._set(alias, [], timeout_s)

    def roll_back(self, alias: str, timeout_s: float | None = None) -> ModelAlias:
        """Sets an alias back to what it was before its last change; again, and it goes one change further back.

        Raises `NotFound` if there is nothing before, or the version is not loaded any more.
        """
        request = message_of(pb.RollBackRequest, alias=alias)
        return admin_wire.alias_value(self._call(lambda to: to.RollBack, request, timeout_s))

    def _set(self, alias: str, targets: list[AliasTarget], timeout_s: float | None) -> ModelAlias:
        request = message_of(pb.SetAliasRequest, alias=alias, targets=admin_wire.target_messages(targets))
        return admin_wire.alias_value(self._call(lambda to: to.SetAlias, request, timeout_s))

    def _call(
        self,
        method: "Callable[[pb_grpc.ModelAdminStub], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
    ) -> AnswerT:
        return self._answer(method, request, checked_timeout_s(timeout_s))
