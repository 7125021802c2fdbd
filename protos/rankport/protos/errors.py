"""Errors of rankport and their statuses of gRPC and HTTP: one tree, a table each, used by server and client alike.

    RankportError
    ├── InvalidRequest        the caller's input is wrong            INVALID_ARGUMENT
    │   └── LimitExceeded     the input is longer than a limit       INVALID_ARGUMENT
    ├── NotFound              no such model, item or file            NOT_FOUND
    ├── PairingError          tokens of an encoder the ranker        FAILED_PRECONDITION
    │                         was not trained with
    ├── Unauthenticated       no token, or none that is known        UNAUTHENTICATED
    ├── PermissionDenied      the token's client may not do that     PERMISSION_DENIED
    ├── Overloaded            the queue is full: retry later         RESOURCE_EXHAUSTED
    │   └── QuotaExceeded     the client had what it may have        RESOURCE_EXHAUSTED
    ├── DeadlineExceeded      time ran out before an answer          DEADLINE_EXCEEDED
    ├── RequestCancelled      the caller gave up                     CANCELLED
    ├── Unavailable           server or engine is stopped,           UNAVAILABLE
    │                         or its GPU lost
    ├── BackendError          a pass failed on the device            INTERNAL
    │   └── UnsupportedGpu    a GPU that its library does not list   INTERNAL
    ├── BundleError           a bundle is not what it says           FAILED_PRECONDITION
    ├── StoreError            a token store cannot be used           FAILED_PRECONDITION
    ├── CheckpointError       a checkpoint cannot be exported        FAILED_PRECONDITION
    ├── ParityError           an export differs from its source      FAILED_PRECONDITION
    └── MissingExtra          a part of rankport is not installed    FAILED_PRECONDITION

Every message holds the offending value, the limit or the rule, and the way out.
"""

import grpc


class RankportError(Exception):
    """Base of every error that a caller of rankport can meet."""


class InvalidRequest(RankportError, ValueError):
    """Malformed input of the caller: the message names the value."""


class LimitExceeded(InvalidRequest):
    """Input of the caller that is longer than the bundle's or the server's limit."""

    places: tuple[int, ...] = ()  # of all texts that are, where that is known


class NotFound(RankportError, LookupError):
    """Model, item or file that is named and does not exist."""


class PairingError(RankportError):
    """Embedding tokens come from an encoder that the ranker is not paired with."""


class Unauthenticated(RankportError):
    """Call without a token, or with one that the server does not know."""


class PermissionDenied(RankportError):
    """Call that needs a right which its client does not have."""


class Overloaded(RankportError):
    """Queue that is full; nothing was computed."""

    retry_after_s: float | None = None  # when to come back, where the server said so; below 0: not at all
    reason: str = "room"  # in metrics: "room", "deadline", "wait"


class QuotaExceeded(Overloaded):
    """Quota of the client that is used up for now; the server itself may have room."""

    reason = "quota"


class DeadlineExceeded(RankportError, TimeoutError):
    """Time of a request that ran out before its answer was ready."""


class RequestCancelled(RankportError):
    """Cancellation of a request by its caller."""


class Unavailable(RankportError, ConnectionError):
    """Server that cannot be reached, or engine that is closed."""

    retry_after_s: float | None = None
    """When to come back, of what is about to be there again; below 0: not at all."""


class BackendError(RankportError, RuntimeError):
    """Failure of a pass on the device."""

    wants_memory = False
    """True where the device had too little: what is kept there for later may give way. Said in this process alone."""


class UnsupportedGpu(BackendError):
    """GPU that a library does not list: it may run there or not, and nobody asked to try."""


class BundleError(RankportError):
    """Bundle that breaks a rule of its format: the message names the field or file."""


class StoreError(RankportError):
    """Store of tokens that cannot be opened or used as asked."""

    replaced = False
    """True of one that was open to be written to, in whose place another stands: do not wait for it."""


class CheckpointError(RankportError):
    """Checkpoint that cannot be exported: the message names what does not fit and why."""


class ParityError(RankportError):
    """Bundle that does not reproduce its source within the tolerance."""


class MissingExtra(RankportError, ModuleNotFoundError):
    """Module that is not installed: the message names what needs it, and the extra that brings it."""


STATUS_CODES: dict[type[RankportError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    LimitExceeded: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    PairingError: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    RequestCancelled: grpc.StatusCode.CANCELLED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    BackendError: grpc.StatusCode.INTERNAL,
    UnsupportedGpu: grpc.StatusCode.INTERNAL,
    BundleError: grpc.StatusCode.FAILED_PRECONDITION,
    StoreError: grpc.StatusCode.FAILED_PRECONDITION,
    CheckpointError: grpc.StatusCode.FAILED_PRECONDITION,
    ParityError: grpc.StatusCode.FAILED_PRECONDITION,
    MissingExtra: grpc.StatusCode.FAILED_PRECONDITION,
}

HTTP_STATUSES: dict[type[RankportError], int] = {
    InvalidRequest: 400,
    LimitExceeded: 413,
    NotFound: 404,
    PairingError: 409,
    Unauthenticated: 401,
    PermissionDenied: 403,
    Overloaded: 429,
    QuotaExceeded: 429,
    DeadlineExceeded: 504,
    RequestCancelled: 499,  # nobody is there to read it; as proxies log it
    Unavailable: 503,
    BackendError: 500,
    UnsupportedGpu: 500,
    BundleError: 409,
    StoreError: 409,
    CheckpointError: 409,
    ParityError: 409,
    MissingExtra: 409,
}

ERROR_METADATA_KEY = "rankport-error"
"""Trailing-metadata key, and header of HTTP, under which the server names the error class."""

_BY_NAME: dict[str, type[RankportError]] = {cls.__name__: cls for cls in STATUS_CODES}
_BY_CODE: dict[grpc.StatusCode, type[RankportError]] = {
    code: cls for cls, code in reversed(STATUS_CODES.items())
}


def status_code(error: BaseException) -> grpc.StatusCode:
    """Returns the gRPC status of an error; INTERNAL for anything that is not a `RankportError`, nor want of memory."""
    if isinstance(error, MemoryError):
        return STATUS_CODES[Overloaded]
    return STATUS_CODES.get(type(error), grpc.StatusCode.INTERNAL)  # type: ignore[arg-type]


def http_status(error: BaseException) -> int:
    """Returns the HTTP status of an error; 500 for anything that is not a `RankportError`."""
    return HTTP_STATUSES.get(type(error), 500)  # type: ignore[arg-type]


def from_status(code: grpc.StatusCode, message: str, error_name: str | None = None) -> RankportError:
    """Makes the error a client raises: the server's own class where it is named, else the first of that status."""
    cls = _BY_NAME.get(error_name or "") or _BY_CODE.get(code, BackendError)
    return cls(message)
