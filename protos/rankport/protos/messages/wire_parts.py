"""Parts of messages that several calls share: enums, outcomes of items, what a request cost.

Strict both ways, as `wire`, which has the messages themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from google.protobuf.message import EncodeError

from rankport.protos.arguments import checked_text
from rankport.protos.errors import InvalidRequest, LimitExceeded, PairingError
from rankport.protos.types import ItemStatus, OnMissing, Side, Truncation, Usage
from rankport.protos.v1 import rankport_pb2 as pb

TRUNCATION: dict[Truncation, pb.Truncation.ValueType] = {
    "error": pb.TRUNCATION_ERROR,
    "truncate": pb.TRUNCATION_TRUNCATE,
}
ON_MISSING: dict[OnMissing, pb.OnMissing.ValueType] = {
    "skip": pb.ON_MISSING_SKIP,
    "fail": pb.ON_MISSING_FAIL,
    "encode": pb.ON_MISSING_ENCODE,
}
SIDE: dict[Side, pb.Side.ValueType] = {"item": pb.SIDE_ITEM, "query": pb.SIDE_QUERY}
_STATUS: dict[ItemStatus, pb.ItemStatus.ValueType] = {
    ItemStatus.OK: pb.ITEM_STATUS_OK,
    ItemStatus.TRUNCATED: pb.ITEM_STATUS_TRUNCATED,
    ItemStatus.NOT_FOUND: pb.ITEM_STATUS_NOT_FOUND,
    ItemStatus.FAILED: pb.ITEM_STATUS_FAILED,
    ItemStatus.ENCODED: pb.ITEM_STATUS_ENCODED,
    ItemStatus.SKIPPED: pb.ITEM_STATUS_SKIPPED,
}
_STATUS_VALUE: dict[int, ItemStatus] = {code: status for status, code in _STATUS.items()}

_USAGE = tuple(field.name for field in fields(Usage))

P = ParamSpec("P")
MessageT = TypeVar("MessageT")
Choice = TypeVar("Choice", bound=str)
Code = TypeVar("Code", bound=int)


def message_of(kind: Callable[..., MessageT], **given: Any) -> MessageT:
    """Makes a message of what a caller gave. Raises `InvalidRequest`, naming the field, for what does not fit in it."""
    for name, value in given.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                checked_text(text, name)
        try:
            kind(**{name: value})
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"{name} is {value!r:.60}: {error}") from error
    return kind(**given)


def require_fingerprint(wanted: str | None, answered: str) -> None:
    """Raises `PairingError` where an encoder of another fingerprint answered than was asked for."""
    if wanted not in (None, answered):
        raise PairingError(
            f"encoder {answered} answered where {wanted} did before: its model was replaced, or its name moved to "
            "another version; describe it anew, and begin again"
        )


def one_message(write: Callable[P, MessageT]) -> Callable[P, MessageT]:
    """Has what writes a request raise `LimitExceeded` for one that no message of protobuf holds."""

    @wraps(write)
    def written(*arguments: P.args, **named: P.kwargs) -> MessageT:
        try:
            return write(*arguments, **named)
        except EncodeError as error:
            raise LimitExceeded(
                "the request has over 2 GiB, which no message holds: send fewer items"
            ) from error

    return written


def usage_message(usage: Usage) -> pb.Usage:
    """Writes what a request cost."""
    return pb.Usage(**{name: getattr(usage, name) for name in _USAGE})


def usage_value(message: pb.Usage) -> Usage:
    """Reads what a request cost."""
    return Usage(**{name: getattr(message, name) for name in _USAGE})


def enum_code(codes: Mapping[Choice, Code], value: Choice, field: str) -> Code:
    """Writes the number of an enum's value; `InvalidRequest`, naming the field, for one that is unknown."""
    try:
        return codes[value]
    except (KeyError, TypeError):
        raise InvalidRequest(f"{field} is {value!r}; give one of {', '.join(codes)}") from None


def side_code(side: Side | None) -> pb.Side.ValueType:
    """Writes a side, or none. Raises as `enum_code`."""
    return pb.SIDE_UNSPECIFIED if side is None else enum_code(SIDE, side, "side")


def side_value(code: pb.Side.ValueType) -> Side | None:
    """Reads a side; None if it is not set. Raises as `enum_value`."""
    return enum_value(SIDE, code, "side") if code else None


def enum_value(codes: Mapping[Choice, Code], code: Code, field: str) -> Choice:
    """Reads the value of an enum's number; 0, "not set", is the first one."""
    if not code:
        return next(iter(codes))
    for value, known in codes.items():
        if known == code:
            return value
    raise InvalidRequest(f"{field} is {code}; this version knows {sorted(codes.values())}")


def outcome_messages(status: Sequence[ItemStatus], messages: Sequence[str]) -> list[pb.ItemOutcome]:
    """Writes what there is to say of some items; nothing of the others."""
    if status.count(ItemStatus.OK) == len(status) and not any(messages):
        return []
    return [
        pb.ItemOutcome(index=index, status=_STATUS[own], message=message)
        for index, (own, message) in enumerate(zip(status, messages, strict=True))
        if own is not ItemStatus.OK or message
    ]


def outcomes_of(
    outcomes: Sequence[pb.ItemOutcome], items: int
) -> tuple[tuple[ItemStatus, ...], tuple[str, ...]]:
    """Reads status and message of every item; `InvalidRequest` for an item that is not there."""
    if not outcomes:
        return (ItemStatus.OK,) * items, ("",) * items
    status, messages = [ItemStatus.OK] * items, [""] * items
    for outcome in outcomes:
        if outcome.index >= items:
            raise InvalidRequest(f"outcomes name item {outcome.index}, but there are {items} items")
        if outcome.status not in _STATUS_VALUE:
            raise InvalidRequest(
                f"status {outcome.status} is unknown; this version knows {sorted(_STATUS_VALUE)}"
            )
        status[outcome.index] = _STATUS_VALUE[outcome.status]
        messages[outcome.index] = outcome.message
    return tuple(status), tuple(messages)
