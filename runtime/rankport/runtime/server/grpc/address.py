"""Address that a server listens on: host and port, or a unix socket; and what keeps it from being taken."""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

import grpc

from rankport.protos.errors import Unavailable

_UNIX = "unix:"


def bind(
    server: grpc.aio.Server,
    host: str,
    port: int,
    credentials: grpc.ServerCredentials | None = None,
    settings: str = "host or port",
    *,
    shared: bool = False,
) -> int:
    """Takes the address, and returns its port; 0 of a unix socket. Raises `Unavailable`, with the reason and the
    settings to change. `shared`: other processes of this server listen there too.
    """
    address = address_of(host, port)
    try:
        try_to_bind(host, port, shared=shared)  # gRPC would not say what is wrong
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except (OSError, RuntimeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "gRPC refused it"
        other = "host" if is_unix(host) else settings
        raise Unavailable(f"cannot listen on {address}: {reason}; choose another {other}") from error
    return 0 if is_unix(host) else port


def address_of(host: str, port: int) -> str:
    """Writes an address, an IPv6 one in brackets, that of a unix socket as it is."""
    if is_unix(host):
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def is_unix(host: str) -> bool:
    """Says whether it is that of a unix socket, which has no port."""
    return host.startswith(_UNIX)


def front_host(host: str, index: int) -> str:
    """Names the host that one front of several takes: the kernel shares a port among processes, no unix socket."""
    return f"{host}.{index}" if is_unix(host) else host


def several_unix(hosts: Iterable[str]) -> str:
    """Writes several unix sockets as the one address that clients take."""
    return _UNIX + ",".join(host.removeprefix(_UNIX) for host in hosts)


def try_to_bind(host: str, port: int, *, shared: bool) -> None:
    """Raises the `OSError` of an address that is taken, forbidden or unknown."""
    if is_unix(host):
        _check_socket(Path(host.removeprefix(_UNIX)))
        return
    addresses = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = addresses[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC, past what lingers of a server
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(address)


def _check_socket(path: Path) -> None:
    """Raises the `OSError` of a path where no socket can be, or where one answers; gRPC takes one nobody answers on."""
    if not path.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(errno.EEXIST, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a server that hangs takes no connection: it has the socket all the same
        if probe.connect_ex(str(path)) in (0, errno.EAGAIN):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
