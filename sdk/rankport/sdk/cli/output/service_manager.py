"""`ServiceManager`: systemd, told over the socket of `NOTIFY_SOCKET` when a service is ready, goes on, or stops."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Manager of this process, if it has one. Telling it waits for nothing, and never fails."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Takes the variables that systemd sets (sd_notify(3)); without them nobody is told anything."""
        address = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket's name begins with a zero byte, which a variable cannot have.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self) -> None:
        """Tells that calls are answered."""
        self._tell("READY=1")

    def goes_on(self) -> None:
        """Tells that the service does what it should: it is restarted where this fails to come (`WatchdogSec`)."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Tells that it ends in good order."""
        self._tell("STOPPING=1")

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(what.encode(), self._address)
