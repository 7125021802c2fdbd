"""Messages of the service `ModelAdmin` <-> the values of `versions`, for server and client alike."""

from collections.abc import Iterable
from dataclasses import asdict

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.wire_parts import message_of
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.versions import (
    AliasRecord,
    AliasTarget,
    ModelAlias,
    ModelState,
    ModelVersion,
    ModelVersions,
)

_STATE: dict[ModelState, pb.ModelState.ValueType] = {
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.WARMING: pb.MODEL_STATE_WARMING,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.DRAINING: pb.MODEL_STATE_DRAINING,
    ModelState.FAILED: pb.MODEL_STATE_FAILED,
}
_STATE_VALUE: dict[int, ModelState] = {code: state for state, code in _STATE.items()}


def version_message(version: ModelVersion) -> pb.ModelVersion:
    """Writes a version."""
    return pb.ModelVersion(**(asdict(version) | {"state": _STATE[version.state]}))


def version_value(message: pb.ModelVersion) -> ModelVersion:
    """Reads a version; `InvalidRequest` for a state that this release does not know."""
    state = _STATE_VALUE.get(message.state)
    if state is None:
        raise InvalidRequest(f"state {message.state} is unknown; this version knows {sorted(_STATE_VALUE)}")
    return ModelVersion(
        name=message.name,
        version=message.version,
        state=state,
        reason=message.reason,
        kind=message.kind,
        fingerprint=message.fingerprint,
        path=message.path,
        since_s=message.since_s,
        requests=message.requests,
    )


def target_messages(targets: Iterable[AliasTarget]) -> list[pb.AliasTarget]:
    """Writes what an alias stands for."""
    return [message_of(pb.AliasTarget, model=target.model, weight=target.weight) for target in targets]


def target_values(messages: Iterable[pb.AliasTarget]) -> tuple[AliasTarget, ...]:
    """Reads what an alias stands for."""
    return tuple(AliasTarget(message.model, message.weight) for message in messages)


def alias_message(alias: ModelAlias) -> pb.ModelAlias:
    """Writes an alias."""
    return pb.ModelAlias(
        alias=alias.alias,
        targets=target_messages(alias.targets),
        earlier=[
            pb.AliasRecord(targets=target_messages(record.targets), until_s=record.until_s)
            for record in alias.earlier
        ],
    )


def alias_value(message: pb.ModelAlias) -> ModelAlias:
    """Reads an alias."""
    earlier = tuple(AliasRecord(target_values(record.targets), record.until_s) for record in message.earlier)
    return ModelAlias(message.alias, target_values(message.targets), earlier)


def versions_message(served: ModelVersions) -> pb.ListVersionsResponse:
    """Writes all versions and aliases."""
    return pb.ListVersionsResponse(
        versions=map(version_message, served.versions), aliases=map(alias_message, served.aliases)
    )


def versions_value(message: pb.ListVersionsResponse) -> ModelVersions:
    """Reads all versions and aliases; raises as `version_value`."""
    return ModelVersions(
        tuple(map(version_value, message.versions)), tuple(map(alias_value, message.aliases))
    )
