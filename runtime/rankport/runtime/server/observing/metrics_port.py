"""`MetricsPort`: /metrics on a port of its own, answered by threads of its own however busy the server is."""

import logging
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from rankport.protos.errors import RankportError, Unauthenticated, Unavailable, http_status
from rankport.runtime.plain_http import PlainHttpServer
from rankport.runtime.server.observing.metrics import CONTENT_TYPE

_log = logging.getLogger(__name__)
_POLL_S = 0.1  # until it sees that it is to end
_TIMEOUT_S = 10.0  # for a request to be sent
_MOST = 32  # connections, each of which has a thread; scrapers are few
LetIn = Callable[[str | None], object]
"""Raises `Unauthenticated` or `PermissionDenied` for a header `authorization`; any thread may call it."""


class MetricsPort:
    """Port that answers GET /metrics. Open from construction to `close`."""

    def __init__(
        self,
        host: str,
        port: int,
        page: Callable[[], bytes],
        let_in: LetIn,
        tls: ssl.SSLContext | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """`shared`: other processes of the server listen there too. Raises `Unavailable` for a taken address."""
        try:
            self._server = _Server(host, port, _handler(page, let_in), tls, shared=shared)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host} port {port} for metrics: {error.strerror}; "
                "choose another metrics_host or metrics_port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="rankport-metrics", daemon=True
        )
        self._thread.start()
        _log.info("metrics on %s:%d/metrics", host, self.port)

    @property
    def port(self) -> int:
        """Port that it listens on, also where it was given as 0."""
        return self._server.server_port

    def close(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(PlainHttpServer):
    request_queue_size = _MOST

    def __init__(
        self,
        host: str,
        port: int,
        handler: type[BaseHTTPRequestHandler],
        tls: ssl.SSLContext | None,
        *,
        shared: bool,
    ) -> None:
        self._tls, self._room = tls, threading.BoundedSemaphore(_MOST)
        super().__init__(host, port, handler, shared=shared)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread can be started
                self._room.release()
                raise
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_TIMEOUT_S)  # of the handshake too
        with self._tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps quiet: a client that left, or speaks no TLS, is its own affair."""
        _log.debug("a scraper's connection ended", exc_info=True)


def _handler(page: Callable[[], bytes], let_in: LetIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "there is /metrics alone")
                return
            try:
                let_in(self.headers.get("authorization"))
            except RankportError as error:
                self._refuse(error)
            else:
                self._answer(200, page(), {"Content-Type": CONTENT_TYPE})

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet: a scraper comes every few seconds."""

        def _refuse(self, error: RankportError) -> None:
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            if isinstance(error, Unauthenticated):
                headers["WWW-Authenticate"] = "Bearer"
            self._answer(http_status(error), f"{error}\n".encode(), headers)

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
