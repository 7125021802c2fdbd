"""Access of a client to a server: what TLS checks and shows, and the token that goes with every call."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc

from rankport.protos.errors import InvalidRequest

_log = logging.getLogger(__name__)
ChannelT = TypeVar("ChannelT", grpc.Channel, grpc.aio.Channel)
Token = str | Callable[[], str]
"""Token, or what gives it at each call, where it is renewed."""
_METADATA = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of TLS in PEM, read when a client is made: authorities of servers, and a client's own certificate with its
    key. Raises `InvalidRequest` for one of the two without the other.
    """

    ca: str | None = None  # None: the authorities that gRPC knows
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidRequest(f"cert is {self.cert!r} and key {self.key!r}: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises `InvalidRequest` for one that cannot be read, or is not in PEM."""
        ca, key, cert = map(_contents, (self.ca, self.key, self.cert))
        for file, content, what in (
            (self.ca, ca, "CERTIFICATE"),
            (self.cert, cert, "CERTIFICATE"),
            (self.key, key, "PRIVATE KEY"),
        ):
            if content is not None and not re.search(rf"-----BEGIN [A-Z ]*{what}-----".encode(), content):
                raise InvalidRequest(f"{file} has no {what.lower()} in PEM")
        return grpc.ssl_channel_credentials(ca, key, cert)


def credentials_of(
    tls: Tls | bool, credentials: grpc.ChannelCredentials | None
) -> grpc.ChannelCredentials | None:
    """Makes what a channel checks; None for one in clear. Raises `InvalidRequest` where both are given."""
    if not isinstance(tls, Tls | bool):
        raise InvalidRequest(f"tls is {tls!r:.60}; give True, False or Tls(ca=FILE)")
    if not tls:
        return credentials
    if credentials is not None:
        raise InvalidRequest("tls and credentials are given: give one of the two")
    return (Tls() if tls is True else tls).credentials()


def checked_token(token: Token | None) -> Token | None:
    """Takes text, or a function. Raises `InvalidRequest` otherwise, and for text that a header does not take."""
    if token is None or callable(token):
        return token
    return _checked_text(token)


def warn_in_clear(token: Token | None, address: str, *, clear: bool) -> None:
    """Says in the log that others on the way can read the token, where it leaves this machine in clear.

    gRPC's own credentials of calls are refused there; a server that is told `--insecure-public` has a network of its
    own that sees to it, which nobody can tell from here.
    """
    if token is not None and clear:
        _log.warning(
            "the token goes to %s in clear, and others on the way can read it: give tls (of commands: RANKPORT_TLS_CA, "
            "RANKPORT_TLS), unless the network sees to that",
            address,
        )


def authorized(channel: ChannelT, token: Token | None) -> ChannelT:
    """Returns what stubs take for the channel, whose calls all carry the token."""
    return channel if token is None else cast(ChannelT, _Authorized(channel, token))


class _Authorized:
    """Channel as far as stubs know it. An interceptor would do the same, more slowly and with calls of its own kind."""

    def __init__(self, channel: Any, token: Token) -> None:
        self._channel, self._token = channel, token

    def unary_unary(self, *method: Any, **more: Any) -> Any:
        return _Method(self._channel.unary_unary(*method, **more), self._token)

    def unary_stream(self, *method: Any, **more: Any) -> Any:
        return _Method(self._channel.unary_stream(*method, **more), self._token)

    def stream_stream(self, *method: Any, **more: Any) -> Any:
        return _Method(self._channel.stream_stream(*method, **more), self._token)


class _Method:
    """Method of a stub, called with the token."""

    def __init__(self, method: Any, token: Token) -> None:
        self._method, self._token = method, token

    def __call__(self, *requests: Any, metadata: _METADATA | None = None, **more: Any) -> Any:
        return self._method(*requests, metadata=self._with_token(metadata), **more)

    def future(self, *requests: Any, metadata: _METADATA | None = None, **more: Any) -> Any:
        return self._method.future(*requests, metadata=self._with_token(metadata), **more)

    def _with_token(self, metadata: _METADATA | None) -> _METADATA:
        token = self._token if isinstance(self._token, str) else _given_by(self._token)
        return (*(metadata or ()), ("authorization", f"Bearer {token}"))


def _given_by(function: Callable[[], str]) -> str:
    try:
        token = function()
    except ValueError as error:  # which gRPC raises too, where a channel is closed
        raise InvalidRequest(f"the function of token raised {type(error).__name__}: {error}") from error
    return _checked_text(token)


def _checked_text(token: object) -> str:
    if not isinstance(token, str):
        raise InvalidRequest(
            f"token is of type {type(token).__name__}; give text, or a function that returns it"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest("token has characters that a header does not take: give it as it was made")
    return token


def _contents(file: str | None) -> bytes | None:
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error
