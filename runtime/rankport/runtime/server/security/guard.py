"""`Guard`: says who calls, by its token, and what it may."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest, PermissionDenied, Unauthenticated
from rankport.protos.priorities import Priority
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.exposure import is_local
from rankport.runtime.server.security.files import Stamp, stamp_of
from rankport.runtime.server.security.quota import Quota
from rankport.runtime.server.security.tokens import RIGHTS, Client, Right, name_in, read_clients

_log = logging.getLogger(__name__)
_LOOK_S = 1.0  # from one look at the file to the next
AUTHORIZATION = "authorization"
"""Metadata key, and header of HTTP, of `Bearer TOKEN`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Client of a call."""

    name: str  # "" where nobody has to say it
    quota: Quota | None
    priority: Priority | None = None  # the one class of its requests


_ANYONE = Caller("", None)


class Guard:
    """Lets calls in, or not. Lives on the server's event loop."""

    def __init__(
        self,
        token_file: str | None,
        without_tokens: frozenset[Right] = frozenset(RIGHTS),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the file. `without_tokens`: what anyone may where there is none.

        Raises `InvalidRequest` for a file that cannot be read, or breaks a rule.
        """
        self._clients = None if token_file is None else _ClientFile(token_file, clock)
        self._without_tokens = without_tokens

    @classmethod
    def of(cls, config: SecurityConfig, host: str) -> "Guard":
        """Makes the guard of the settings: without tokens, admin calls are for who reaches this machine alone."""
        anyone = RIGHTS if config.admin_port is not None or is_local(host) else ("call", "metrics")
        return cls(config.token_file, frozenset(anyone))

    def caller(self, authorization: str | None, right: Right) -> Caller:
        """Says who calls, by the header.

        Raises:
            Unauthenticated: there is no token, or none that is known.
            PermissionDenied: its client does not have the right.
        """
        if self._clients is None:
            return self._unknown(right)
        client = self._known(authorization)
        if not client.may(right):
            raise PermissionDenied(
                f"client {client.name} does not have the right {right!r}, which this call needs"
            )
        return Caller(client.name, self._clients.quota(client), client.limits.priority)

    def _unknown(self, right: Right) -> Caller:
        if right not in self._without_tokens:
            raise PermissionDenied(
                f"calls that need the right {right!r} need a token here: start the server with --token-file, or with "
                "--admin-port for them"
            )
        return _ANYONE

    def _known(self, authorization: str | None) -> Client:
        assert self._clients is not None, "asked"
        if authorization is None:
            raise Unauthenticated(f"the call has no token: send `{AUTHORIZATION}: Bearer TOKEN`")
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(f"{AUTHORIZATION} has the scheme {scheme[:20]!r}: send `Bearer TOKEN`")
        client = self._clients.look().get(name_in(token.strip()))
        if client is None or not client.has(token.strip()):
            raise Unauthenticated("the token is not known here: it is wrong, or was withdrawn")
        return client


class _ClientFile:
    """Clients of a file, read again when it changes; until it can be used they stay, and the log says so once."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._looked_s = clock()
        self._stamp, self._clients = self._read()
        self._fault = ""  # that keeps it from being read, once told
        self._quotas: dict[str, Quota] = {}

    def look(self) -> Mapping[str, Client]:
        """Gives the clients by name."""
        now_s = self._clock()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._read_again()
        return self._clients

    def quota(self, client: Client) -> Quota:
        """Gives what is left of a client's quota."""
        quota = self._quotas.get(client.name)
        if quota is None:
            quota = self._quotas[client.name] = Quota(client.name, client.limits, self._clock)
        quota.set_limits(client.limits)
        return quota

    def _read_again(self) -> None:
        try:
            if stamp_of(self._path) != self._stamp:
                self._stamp, self._clients = self._read()
                self._tell_read()
        except (InvalidRequest, OSError) as error:
            if str(error) != self._fault:
                _log.error("the clients stay as they were: %s", error)
            self._fault = str(error)
        else:
            self._fault = ""

    def _tell_read(self) -> None:
        if self._clients:
            _log.info("%s is read again: %d clients", self._path, len(self._clients))
        else:
            _log.warning(
                "%s is read again, and has no client: all calls that need a token are refused", self._path
            )

    def _read(self) -> tuple[Stamp, Mapping[str, Client]]:
        try:
            stamp = stamp_of(self._path)
            text = Path(self._path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise InvalidRequest(f"token_file {self._path} cannot be read: {reason}") from error
        return stamp, read_clients(text, self._path)
