"""Addresses of a server: whether they go together, and whether this machine has them; not whether they are taken."""

import errno
import socket
from collections.abc import Iterator
from itertools import combinations

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.grpc.address import front_host, is_unix, try_to_bind
from rankport.runtime.server.security.exposure import check_exposure

_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})


def check_addresses(server: ServerConfig) -> None:
    """Raises `InvalidRequest` for hosts that are too open or cannot be, and two ports of the server's own in one."""
    check_exposure(server.hosts, server.security)
    for option, host, _ in _places(server):
        if host == "unix:":
            raise InvalidRequest(f"{option} is 'unix:': give the path of a socket, unix:/PATH")
        if is_unix(host) and option != "host":
            raise InvalidRequest(
                f"{option} is {host!r}: a unix socket is for host alone; give an address here"
            )
    ports = [place for place in _places(server) if place[2] and not is_unix(place[1])]
    for (option, host, port), (other_option, other_host, other_port) in combinations(ports, 2):
        if port == other_port and _meet(host, other_host):
            first, second = (each.replace("host", "port") for each in (option, other_option))
            raise InvalidRequest(f"{first} and {second} are both {port}: give another {second}")


def check_reachable(server: ServerConfig) -> None:
    """Raises `InvalidRequest` for an address that nobody could listen on here. One that another process has is fine."""
    for option, host, port in _places(server):
        for own in [front_host(host, index) for index in range(server.fronts)] or [host]:
            try:
                try_to_bind(own, port, shared=False)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    at = own if is_unix(own) else f"{own} port {port}"
                    raise InvalidRequest(
                        f"{option}: cannot listen on {at}: {error.strerror or error}; choose another"
                    ) from error


def _places(server: ServerConfig) -> Iterator[tuple[str, str, int]]:
    """Gives the options of hosts, with host and port."""
    security, observing = server.security, server.observing
    yield "host", server.host, server.port
    for option, host, port in (
        ("http_host", server.http_host, server.http_port),
        ("admin_host", security.admin_host, security.admin_port),
        ("metrics_host", observing.metrics_host, observing.metrics_port),
    ):
        if port is not None:
            yield option, host, port


def _meet(host: str, other: str) -> bool:
    """Says whether two hosts have an address in common."""
    own, others = _addresses(host), _addresses(other)
    return bool(own & others or (own | others) & _EVERYWHERE)


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, flags=socket.AI_PASSIVE)
    except OSError:
        return {host}
    return {str(entry[4][0]) for entry in found}
