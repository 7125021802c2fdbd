"""Tokens and the lines by which a server knows them: `NAME HASH RIGHTS QUOTA`, one a line.

    # the search front end
    search  sha256:9f2c…:51ab…  call        items=20000/s,tokens=500000/s,concurrent=64
    deploy  sha256:07be…:e3d0…  call,admin  -
    nightly sha256:5c11…:a2d7…  call        priority=background

A token is NAME.SECRET. The secret is 32 random bytes that rankport draws: nobody can try them all, so that a slow hash,
as passwords need it, would protect nothing and cost each call its time. The salt keeps equal tokens from looking equal.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from rankport.protos.errors import InvalidRequest
from rankport.protos.priorities import Priority
from rankport.protos.wording import counted

Right = Literal["call", "admin", "metrics"]
RIGHTS: tuple[Right, ...] = get_args(Right)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{32}):([0-9a-f]{64})")
_RATE = r"\d+(?:\.\d+)?"
_QUOTA = re.compile(
    rf"items=(?P<items>{_RATE})/s|tokens=(?P<tokens>{_RATE})/s|concurrent=(?P<concurrent>\d+)"
    rf"|priority=(?P<priority>background)"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Most that a client may have; None: as much as there is."""

    items_per_s: float | None = None  # over time
    concurrent: int | None = None  # requests worked on or waiting
    tokens_per_s: float | None = None  # over time
    priority: Priority | None = None  # the one class of its requests

    def __str__(self) -> str:
        items = [] if self.items_per_s is None else [f"items={_digits(self.items_per_s)}/s"]
        tokens = [] if self.tokens_per_s is None else [f"tokens={_digits(self.tokens_per_s)}/s"]
        calls = [] if self.concurrent is None else [f"concurrent={self.concurrent}"]
        classes = [] if self.priority is None else [f"priority={self.priority}"]
        return ",".join((*items, *tokens, *calls, *classes)) or "-"


@dataclass(frozen=True, slots=True)
class Client:
    """Client of a server as its lines tell it. Several lines of one name are several tokens of one client."""

    name: str
    rights: frozenset[Right]
    limits: Limits
    hashes: tuple[tuple[bytes, bytes], ...]  # salt and digest of each token

    def may(self, right: Right) -> bool:
        """Says whether it has a right; who calls may see the metrics too."""
        return right in self.rights or (right == "metrics" and "call" in self.rights)

    def has(self, token: str) -> bool:
        """Says whether a token is one of its own, in a time that tells nothing of it."""
        return any(hmac.compare_digest(digest, _digest(salt, token)) for salt, digest in self.hashes)


def new_token(name: str) -> str:
    """Draws a token for a client. Raises `InvalidRequest` for a name that is none."""
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(f"name is {name!r:.80}: give 1 to 64 letters, digits, - and _")
    return f"{name}.{secrets.token_urlsafe(32)}"


def name_in(token: str) -> str:
    """Reads the client's name in a token; "" if it is none."""
    name, dot, _ = token.partition(".")
    return name if dot else ""


def line_of(token: str, rights: Collection[Right], limits: Limits) -> str:
    """Writes the line of a token. Raises `InvalidRequest` without a right."""
    if not rights:
        raise InvalidRequest(f"token {name_in(token)!r} has no right: give {' or '.join(RIGHTS)}")
    salt = secrets.token_bytes(16)
    words = ",".join(right for right in RIGHTS if right in rights)
    return f"{name_in(token)} sha256:{salt.hex()}:{_digest(salt, token).hex()} {words} {limits}"


def read_clients(text: str, file: str) -> Mapping[str, Client]:
    """Reads a file's lines to clients by name. Raises `InvalidRequest`, with file and line, for one that is wrong."""
    clients: dict[str, Client] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            client = _client(words)
            known = clients.get(client.name)
            clients[client.name] = client if known is None else _joined(known, client)
        except InvalidRequest as error:
            raise InvalidRequest(f"{file}, line {number}: {error}") from None
    return clients


def _client(words: Sequence[str]) -> Client:
    if len(words) != 4:
        raise InvalidRequest(
            f"{counted(len(words), 'word')}; a line is NAME HASH RIGHTS QUOTA, and - is no quota"
        )
    name, hashed, rights, quota = words
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(f"name {name!r:.80} is none: 1 to 64 letters, digits, - and _")
    matched = _HASH.fullmatch(hashed)
    if matched is None:  # which may be a token in clear: it is not repeated
        raise InvalidRequest(
            f"the second word of {name} is no hash; `rankport token new {name}` makes a line"
        )
    salt, digest = map(bytes.fromhex, matched.groups())
    return Client(name, _rights(rights), _limits(quota), ((salt, digest),))


def _joined(known: Client, other: Client) -> Client:
    if (known.rights, known.limits) != (other.rights, other.limits):
        raise InvalidRequest(
            f"{known.name} has another line with other rights or another quota: give both the same"
        )
    return Client(known.name, known.rights, known.limits, known.hashes + other.hashes)


def _rights(text: str) -> frozenset[Right]:
    words = text.split(",")
    for word in words:
        if word not in RIGHTS:
            raise InvalidRequest(f"right {word!r:.40} is unknown: there are {', '.join(RIGHTS)}")
    return frozenset(cast(list[Right], words))


def _limits(text: str) -> Limits:
    given: dict[str, str] = {}
    for word in [] if text == "-" else text.split(","):
        matched = _QUOTA.fullmatch(word)
        name = "" if matched is None else str(matched.lastgroup)
        if matched is None or name in given or _is_zero(matched[name]):
            raise InvalidRequest(
                f"quota {word!r:.40} is none: give items=N/s, tokens=N/s and concurrent=N above 0, "
                "priority=background, each once, or -"
            )
        given[name] = matched[name]
    return Limits(
        items_per_s=float(given["items"]) if "items" in given else None,
        concurrent=int(given["concurrent"]) if "concurrent" in given else None,
        tokens_per_s=float(given["tokens"]) if "tokens" in given else None,
        priority="background" if "priority" in given else None,
    )


def _is_zero(text: str) -> bool:
    return not text.strip("0.")


def _digits(number: float) -> str:
    """Writes a number as a line has it, without an exponent."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _digest(salt: bytes, token: str) -> bytes:
    return hashlib.sha256(salt + token.encode()).digest()
