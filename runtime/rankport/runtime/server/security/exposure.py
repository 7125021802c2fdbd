"""Exposure of an address: whether others than this machine reach it, and what it needs if so."""

import socket
from collections.abc import Mapping
from ipaddress import ip_address

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.security.config import SecurityConfig


def is_local(host: str) -> bool:
    """Says whether this machine alone reaches a host: loopback or a unix socket, not what cannot be looked up."""
    if host.startswith("unix:"):
        return True
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def check_exposure(hosts: Mapping[str, str], security: SecurityConfig) -> None:
    """Raises `InvalidRequest` for hosts, by option, that others reach without TLS or without showing who they are."""
    lacking = [*([] if security.encrypts else ["TLS (tls_cert, tls_key)"])]
    lacking += (
        [] if security.knows_clients else ["tokens (token_file) or clients' certificates (tls_client_ca)"]
    )
    if security.insecure_public or not lacking:
        return
    for option, host in hosts.items():
        if not is_local(host):
            raise InvalidRequest(
                f"{option} {host} is reached by others, without {' and without '.join(lacking)}: give them, or "
                "insecure_public if something else sees to it"
            )
