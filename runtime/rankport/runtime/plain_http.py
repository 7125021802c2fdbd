"""`PlainHttpServer`: pages that a few machines read, over HTTP by threads of the standard library."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer


class PlainHttpServer(ThreadingHTTPServer):
    """Listens on an address of either family, and asks no name server who it is: that may take as long as it likes."""

    daemon_threads = True

    def __init__(
        self, host: str, port: int, handler: type[BaseHTTPRequestHandler], *, shared: bool = False
    ) -> None:
        """Listens; "" are all addresses, `shared` says that other processes listen there too. Raises `OSError`."""
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
