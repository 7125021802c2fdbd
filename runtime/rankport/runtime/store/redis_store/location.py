"""`RedisLocation`: what the URL of a Redis says, and of a token store in it.

redis://[user:password@]host[:port][/database]?prefix=rankport&ttl=7d        (rediss:// with TLS)
redis://[user@]host[:port][/database]?password_file=FILE
unix://[user:password@]/path/of/socket?db=0&prefix=rankport
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from rankport.protos.errors import InvalidRequest
from rankport.protos.reasons import reason_of

SCHEMES: Final = ("redis", "rediss", "unix")
DEFAULT_PREFIX: Final = "rankport"
STORE: Final = "token store"

_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TTL = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_OWN = ("prefix", "ttl", "timeout_s", "retry_s", "eviction", "password_file")
_CLIENTS = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisLocation:
    """Server, and the keys of a store in it."""

    url: str = field(repr=False)  # as the client library takes it, with its password
    name: str  # as messages show it: without a password
    prefix: str = DEFAULT_PREFIX
    ttl_ms: int | None = None  # of every item written
    timeout_s: float = 5.0  # of a connection, and of a reply
    retry_s: float | None = None  # of a server that cannot be reached; None: by what the store is opened for
    may_evict: bool = False  # a server that evicts keys is fine
    what: str = STORE  # what is kept there, for messages

    @property
    def told(self) -> str:
        """Says what it is and where, for messages."""
        return f"{self.what} {self.name}"

    @classmethod
    def parse(cls, location: str, what: str = STORE) -> "RedisLocation":
        """Reads a URL of `what`, by which messages call it. Raises `InvalidRequest`, which names what is wrong."""
        name = without_password(location)
        told = f"{what} {name}"
        try:
            parts = urlsplit(location)
            _ = parts.port
            given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise InvalidRequest(f"{told}: {error}") from error
        options = dict(given)
        unknown = sorted(options.keys() - {*_OWN, *_CLIENTS})
        if unknown or len(options) < len(given):
            amiss = f"option {unknown[0]!r}" if unknown else "an option that is given twice"
            raise InvalidRequest(f"{told} has {amiss}: there are {', '.join((*_OWN, *_CLIENTS))}")
        if parts.scheme not in SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise InvalidRequest(f"{told}: give redis://HOST:PORT/DATABASE or unix:///SOCKET")
        if parts.fragment:
            raise InvalidRequest(f"{told}: what is behind '#' says nothing here; in a password write %23")
        _check_database(told, parts.scheme, parts.path, options.get("db"))
        clients = urlencode({key: value for key, value in options.items() if key in _CLIENTS})
        login = parts.netloc
        if "password_file" in options:
            login = _with_password(told, login, options["password_file"])
        return cls(
            url=f"{parts.scheme}://{login}{parts.path}" + (f"?{clients}" if clients else ""),
            name=name,
            prefix=_prefix(told, options.get("prefix", DEFAULT_PREFIX)),
            ttl_ms=_ttl_ms(told, options["ttl"]) if "ttl" in options else None,
            timeout_s=_seconds(told, "timeout_s", options.get("timeout_s", "5")),
            retry_s=_seconds(told, "retry_s", options["retry_s"]) if "retry_s" in options else None,
            may_evict=_may_evict(told, options.get("eviction", "refuse")),
            what=what,
        )


def without_password(location: str) -> str:
    """Words a location for messages: a URL without its password, even if that has a slash that is not escaped."""
    scheme, mark, rest = location.rpartition("://")
    if not mark:
        return location
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}{mark}{user}{colon and ':***'}{at}{host}"


def _with_password(told: str, login: str, file: str) -> str:
    """Puts the password of a file into [user@]host. Raises `InvalidRequest` for none, or a second one."""
    user, _, host = login.rpartition("@")
    if ":" in user:
        raise InvalidRequest(f"{told}: a password in the URL and password_file: leave one out")
    try:
        password = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InvalidRequest(f"{told}: password_file {file!r} cannot be read: {reason}") from error
    if not password:
        raise InvalidRequest(f"{told}: password_file {file!r} is empty: write the password into it")
    return f"{user}:{quote(password, safe='')}@{host}"


def _check_database(told: str, scheme: str, path: str, db: str | None) -> None:
    """Raises `InvalidRequest` for a database that is no number, or said twice: the client library would take 0."""
    in_path = "" if scheme == "unix" else path.removeprefix("/")
    for given in filter(None, (in_path, db)):
        if not given.isdecimal():
            raise InvalidRequest(
                f"{told}: database {given!r}: give a number from 0 on, as redis://HOST:PORT/0"
            )
    if in_path and db:
        raise InvalidRequest(f"{told}: database {in_path} in the path and {db} in db: leave one out")


def _prefix(told: str, value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise InvalidRequest(f"{told}: prefix {value!r}: use 1 to 128 of A-Z a-z 0-9 . _ : -")
    return value


def _ttl_ms(told: str, value: str) -> int:
    found = _TTL.fullmatch(value)
    if found is None:
        raise InvalidRequest(f"{told}: ttl {value!r}: give a whole number and s, m, h or d, as 7d")
    return int(found[1]) * _UNIT_MS[found[2]]


def _seconds(told: str, option: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise InvalidRequest(f"{told}: {option} {value!r}: give seconds, above 0 and at most 3600")
    return seconds


def _may_evict(told: str, value: str) -> bool:
    if value not in ("refuse", "accept"):
        raise InvalidRequest(f"{told}: eviction {value!r}: give refuse or accept")
    return value == "accept"
