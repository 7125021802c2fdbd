"""Channels of both clients: which addresses they have in turn, and how they lose and find servers again.

Calls are made again by `retries`, not by gRPC. What gRPC still does by itself is send a request over another connection
that the first one never took.
"""

import json
import logging
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Self

from rankport.protos.errors import InvalidRequest, Unavailable

ChannelOptions = Sequence[tuple[str, Any]]

_log = logging.getLogger(__name__)
_UNIX = "unix:"
_SCHEMES = (_UNIX, "dns:", "ipv4:", "ipv6:", "unix-abstract:", "vsock:", "xds:")  # of gRPC
_LAST_PORT = 65_535
_HOST_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[^\s\[\]/]+)?)\]|(?P<host>[^\s\[\]:/]+)):(?P<port>[0-9]+)"
)

_OPTIONS: ChannelOptions = (
    # The server sets the limits, and says so in its error.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that vanished without a word is noticed during a call that has no deadline.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # One that is back is found within about a second, however long it was gone; by default gRPC looks every 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # This is the time that one attempt may take, and by default 20 s: a host that drops packets would cost it all.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # A request that is larger is not sent over another connection; the default of 256 KiB is a few hundred items.
    ("grpc.per_rpc_retry_buffer_size", 128 * 2**20),
)
_IN_TURN = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # Passes over servers that report that they are about to stop.
    "healthCheckConfig": {"serviceName": ""},
}


@dataclass(frozen=True, slots=True)
class Target:
    """Place that a client connects to."""

    told: str  # the address in messages
    uri: str  # as gRPC takes it
    several: bool  # servers, asked in turn
    name: str | None = None  # that their certificates are for, where the uri does not say it

    @classmethod
    def of(cls, address: object) -> Self:
        """Takes a gRPC target (host:port, dns:///host:port, unix:path) or a list of host:port, looked up here.

        Several sockets of one machine are one target, unix:PATH,PATH, or a list of unix:PATH.

        Raises:
            InvalidRequest: it is none, empty, a URL, or a list of both kinds.
            Unavailable: no name of a list is known.
        """
        if isinstance(address, str):
            sockets = address.startswith(_UNIX) and "," in address
            return cls(address, _checked(address), several=sockets or address.startswith("dns:"))
        if not isinstance(address, Iterable):
            raise InvalidRequest(f"address is {address!r:.200}; give host:port, or a list of them")
        listed = [_checked(each) for each in address]
        if not listed:
            raise InvalidRequest("address is an empty list; give host:port, or a list of them")
        if len(listed) == 1:
            return cls.of(listed[0])
        if all(each.startswith(_UNIX) for each in listed):
            return cls.of(_UNIX + ",".join(each.removeprefix(_UNIX) for each in listed))
        hosts = {_host_and_port(each)[0] for each in listed}
        return cls(", ".join(listed), _looked_up(listed), True, hosts.pop() if len(hosts) == 1 else None)

    @property
    def is_here(self) -> bool:
        """Tells whether what is sent there stays on this machine."""
        scheme = next((scheme for scheme in _SCHEMES if self.uri.startswith(scheme)), "")
        if scheme.startswith("unix"):
            return True
        addresses = self.uri.removeprefix(scheme).rpartition("/")[2].split(",")
        matched = (_HOST_PORT.fullmatch(address) for address in addresses)
        return all(each is not None and is_this_machine(each["v6"] or each["host"]) for each in matched)

    def options(self, more: ChannelOptions, *, secure: bool) -> ChannelOptions:
        """Makes the channel options, overridden by `more`.

        Raises InvalidRequest for what is no pairs of a name and a value, and for addresses of several hosts behind TLS,
        unless `more` names their certificates' host.
        """
        options = dict(_OPTIONS) | {"grpc.service_config": json.dumps(_IN_TURN if self.several else {})}
        if self.uri != self.told or "," in self.uri:
            # A proxy that the environment names would be asked for all addresses as for one host.
            options["grpc.enable_http_proxy"] = 0
        if self.uri != self.told and secure:
            options["grpc.ssl_target_name_override"] = self.name
        options |= _pairs(more)
        if options.get("grpc.ssl_target_name_override", "") is None:
            raise InvalidRequest(
                f"addresses {self.told} are of several hosts, and TLS checks one name: give "
                'options=[("grpc.ssl_target_name_override", NAME)]'
            )
        return list(options.items())


def _pairs(options: ChannelOptions) -> dict[str, Any]:
    with suppress(TypeError, ValueError):
        pairs = dict(options)
        if all(isinstance(name, str) for name in pairs):
            return pairs
    raise InvalidRequest(f"options are {options!r:.200}; give pairs of a name and a value")


def is_this_machine(host: str) -> bool:
    """Tells a name or an address of loopback."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    # Of a list with both families those of IPv4 are written as IPv6.
    written = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (written or address).is_loopback


def _checked(address: object) -> str:
    if not isinstance(address, str) or not address.isprintable() or not _is_target(address):
        raise InvalidRequest(f"address is {address!r:.200}; give host:port")
    port = address.rpartition(":")[2]
    if not address.startswith(_UNIX) and port.isascii() and port.isdigit() and int(port[:9]) > _LAST_PORT:
        # gRPC itself would take what is left of it in 16 bits.
        raise InvalidRequest(
            f"address is {address!r:.200}: there is no port {port:.20}, they end at {_LAST_PORT}"
        )
    return address


def _is_target(address: str) -> bool:
    """Tells whether gRPC would connect to what was meant: without a port it takes 443."""
    scheme = next((scheme for scheme in _SCHEMES if address.startswith(scheme)), None)
    return len(address) > len(scheme) if scheme else _HOST_PORT.fullmatch(address) is not None


def _host_and_port(address: str) -> tuple[str, int]:
    matched = _HOST_PORT.fullmatch(address)
    if matched is None:
        raise InvalidRequest(
            f"address {address!r:.200} is one of several; give each as host:port, or each as unix:PATH"
        )
    return matched["v6"] or matched["host"], int(matched["port"])


def _looked_up(addresses: Sequence[str]) -> str:
    """Writes several servers as gRPC takes them: by numbers, all of one family."""
    found: dict[tuple[str, int], None] = {}
    for address in addresses:
        host, port = _host_and_port(address)
        try:
            found |= dict.fromkeys((number, port) for number in _numbers(host))
        except OSError as error:
            _log.warning("address %s is left out: %s cannot be looked up: %s", address, host, error)
    if not found:
        raise Unavailable(f"none of {', '.join(addresses)} can be looked up; check the names")
    if all(ip_address(number).version == 4 for number, _ in found):
        return "ipv4:" + ",".join(f"{number}:{port}" for number, port in found)
    return "ipv6:" + ",".join(f"[{_as_v6(number)}]:{port}" for number, port in found)


def _numbers(host: str) -> list[str]:
    """Looks a host up: its IPv4 addresses, those of IPv6 where it has no others."""
    entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    by_family = {
        family: [str(entry[4][0]) for entry in entries if entry[0] == family] for family in _FAMILIES
    }
    return by_family[socket.AF_INET] or by_family[socket.AF_INET6]


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _as_v6(number: str) -> str:
    return f"::ffff:{number}" if ip_address(number).version == 4 else number
