"""Connection of a command to a server, with what the environment says of tokens and TLS.

A token is a secret, which arguments of a command are not: other users of the machine see them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.sdk.client import Client
from rankport.sdk.transport.access import Tls

_TOKEN, _TLS = "RANKPORT_TOKEN", "RANKPORT_TLS"
_FILES = {"ca": "RANKPORT_TLS_CA", "cert": "RANKPORT_TLS_CERT", "key": "RANKPORT_TLS_KEY"}
_IF_CLEAR = f"if it is behind TLS, give its authority in {_FILES['ca']}, or {_TLS}=1"
_IF_SECURE = (
    f"if it is there, it is not behind TLS, or its certificate has expired, or is of another name or not of the "
    f"authority in {_FILES['ca']}"
)
_WORDS = {"": False, "0": False, "1": True}


@contextmanager
def connected(server: str, model: str = "", environment: Mapping[str, str] = os.environ) -> Iterator[Client]:
    """Connects for the block. Raises as `Client`, and `InvalidRequest` for an environment that says what cannot be."""
    tls = tls_of(environment)
    with Client(server, model, token=token_of(environment), tls=tls) as client:
        try:
            yield client
        except Unavailable as error:
            told = str(error)
            if (
                "cannot be reached" not in told or "TLS" in told
            ):  # the server's own words, or the client's of TLS
                raise
            raise Unavailable(f"{error}; {_IF_SECURE if tls else _IF_CLEAR}") from error


def token_of(environment: Mapping[str, str]) -> str | None:
    """Reads the token that the environment says."""
    return environment.get(_TOKEN) or None


def tls_of(environment: Mapping[str, str]) -> Tls | bool:
    """Reads what the environment says of TLS: files, or 1 for the authorities that gRPC knows."""
    files = {name: environment[variable] for name, variable in _FILES.items() if environment.get(variable)}
    word = environment.get(_TLS, "1" if files else "")
    if word not in _WORDS or (files and not _WORDS[word]):
        raise InvalidRequest(
            f"{_TLS} is {word!r}: give 1 for TLS, or leave it and {', '.join(_FILES.values())} out"
        )
    return Tls(**files) if files else _WORDS[word]
