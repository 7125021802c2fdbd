"""`PlainHttpServer`: pages that a few machines read, over HTTP by threads of the standard library."""

import errno
import logging
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

_log = logging.getLogger(__name__)
_MOST = 32  # connections, each of which has a thread; readers are few
_PAUSE_S = (
    0.5  # while this process may open no more files: the connection waits, and would be asked for at once
)
TIMEOUT_S = 10.0
"""Time for a connection to send or take something."""


class PlainHandler(BaseHTTPRequestHandler):
    """Handler that waits for no client for ever, and tells nothing of requests: readers come every few seconds."""

    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""

    def version_string(self) -> str:
        """Names the server, without the version of Python that strangers would be told."""
        return "rankport"


class PlainHttpServer(ThreadingHTTPServer):
    """Listens on an address of either family, and asks no name server who it is: that may take as long as it likes.

    Where a connection is one too many the oldest ends: such as say nothing, or a byte now and then, keep nobody out.
    """

    daemon_threads = True
    request_queue_size = _MOST

    def __init__(self, host: str, port: int, handler: type[PlainHandler], *, shared: bool = False) -> None:
        """Listens; "" are all addresses, `shared` says that other processes listen there too. Raises `OSError`."""
        self._open: dict[Any, socket.socket] = {}  # the oldest first; TLS takes the sockets themselves away
        self._lock = threading.Lock()
        self.allow_reuse_port = shared
        host = host.strip("[]")
        if host:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        elif socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Takes the address."""
        if self.address_family == socket.AF_INET6 and not self.server_address[0]:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def get_request(self) -> tuple[Any, Any]:
        """Takes the next connection. Raises `OSError`, a while later where there is no file left for it."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection a thread, in the stead of the oldest where there are too many."""
        with self._lock:
            if len(self._open) >= _MOST:
                with suppress(OSError):  # it has ended
                    self._open[next(iter(self._open))].shutdown(socket.SHUT_RDWR)
                self._open.pop(next(iter(self._open))).close()
            self._open[request] = request.dup()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread can be started
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps quiet: a client that left, or speaks another protocol, is its own affair."""
        _log.debug("the connection of a reader ended", exc_info=True)

    def _forget(self, request: Any) -> None:
        with self._lock:
            connection = self._open.pop(request, None)
        if connection is not None:
            connection.close()
