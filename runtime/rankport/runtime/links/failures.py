"""Errors as plain values, and back."""

from collections.abc import Mapping
from typing import Any

from rankport.protos.errors import Overloaded, RankportError, from_status, status_code


def told(error: BaseException) -> dict[str, Any]:
    """Writes an error: its class, message, and what an `Overloaded` says beside."""
    values: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if not isinstance(error, RankportError):
        values["message"] = f"{type(error).__name__}: {error}"
    if isinstance(error, Overloaded):
        values |= {"retry_after_s": error.retry_after_s, "reason": error.reason}
    return values | {"code": status_code(error).name}


def read(values: Mapping[str, Any]) -> RankportError:
    """Makes the error that `told` wrote; a `BackendError` of one that is none of rankport's."""
    import grpc

    error = from_status(grpc.StatusCode[values["code"]], values["message"], values["error"])
    if isinstance(error, Overloaded):
        error.retry_after_s, error.reason = values.get("retry_after_s"), values.get("reason", "room")
    return error
