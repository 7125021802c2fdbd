"""Statuses of failed calls, with their details, as a client of any language reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from rankport.protos.errors import ERROR_METADATA_KEY


@dataclass(frozen=True, slots=True)
class Refusal:
    """End of a call that failed."""

    code: grpc.StatusCode
    message: str
    trailers: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the error, "" where the server gave none."""
        return str(self.trailers.get(ERROR_METADATA_KEY, ""))

    @property
    def info(self) -> ErrorInfo:
        return self._detail(ErrorInfo)

    @property
    def retry_s(self) -> float | None:
        """Seconds of the hint to retry; None where there is none."""
        if not any(detail.Is(RetryInfo.DESCRIPTOR) for detail in self._status().details):
            return None
        return float(self._detail(RetryInfo).retry_delay.ToMilliseconds()) / 1000

    @property
    def fields(self) -> list[str]:
        """Fields at fault."""
        if not any(detail.Is(BadRequest.DESCRIPTOR) for detail in self._status().details):
            return []
        return [violation.field for violation in self._detail(BadRequest).field_violations]

    def _status(self) -> Status:
        status = Status.FromString(self.trailers["grpc-status-details-bin"])
        assert (status.code, status.message) == (self.code.value[0], self.message)
        return status

    def _detail(self, kind: Any) -> Any:
        detail = kind()
        assert any(packed.Unpack(detail) for packed in self._status().details)
        return detail


def refusal(call: Callable[[], object]) -> Refusal:
    """Makes a call that fails, and tells how."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    return Refusal(error.code(), error.details(), dict(error.trailing_metadata() or ()))
