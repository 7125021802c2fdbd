"""`ReservedPort`: a port that several processes listen on together, kept from others while it is open."""

import socket

from rankport.protos.errors import Unavailable


class ReservedPort:
    """Takes part in no call: it is bound and does not listen."""

    def __init__(self, host: str, port: int, settings: str) -> None:
        """Takes a port, 0 a free one. Raises `Unavailable`, with the reason and the settings to change."""
        try:
            infos = socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = infos[0]
            self._socket = socket.socket(family, kind, protocol)
            try:
                self._take(family, kind, protocol, address)
            except OSError:
                self._socket.close()
                raise
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host} port {port}: {error.strerror}; choose another {settings}"
            ) from error
        self.number: int = self._socket.getsockname()[1]

    def _take(self, family: int, kind: int, protocol: int, address: object) -> None:
        with socket.socket(
            family, kind, protocol
        ) as probe:  # finds other servers, which would share it as well
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)  # type: ignore[arg-type]
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._socket.bind(address)  # type: ignore[arg-type]
        except OSError:  # connections of a server of one process linger there, which shared no port
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)  # type: ignore[arg-type]

    def close(self) -> None:
        """Leaves it to others."""
        self._socket.close()
