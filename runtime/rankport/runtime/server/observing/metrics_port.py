"""`MetricsPort`: /metrics on a port of its own, answered by threads of its own however busy the server is."""

import logging
import ssl
import threading
from collections.abc import Callable
from typing import Any

from rankport.protos.errors import RankportError, Unauthenticated, Unavailable, http_status
from rankport.runtime.plain_http import TIMEOUT_S, PlainHandler, PlainHttpServer
from rankport.runtime.server.observing.metrics import CONTENT_TYPE

_log = logging.getLogger(__name__)
_POLL_S = 0.1  # until it sees that it is to end
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
    def __init__(
        self,
        host: str,
        port: int,
        handler: type[PlainHandler],
        tls: ssl.SSLContext | None,
        *,
        shared: bool,
    ) -> None:
        self._tls = tls
        super().__init__(host, port, handler, shared=shared)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(TIMEOUT_S)  # of the handshake too
        with self._tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)


def _handler(page: Callable[[], bytes], let_in: LetIn) -> type[PlainHandler]:
    class Handler(PlainHandler):
        def do_GET(self) -> None:  # noqa: N802
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "there is /metrics alone")
                return
            try:
                let_in(self.headers.get("authorization"))
            except RankportError as error:
                self._refuse(error)
            else:
                self._answer(200, page(), {"Content-Type": CONTENT_TYPE})

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
