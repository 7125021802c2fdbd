"""`MetricsPort`: /metrics on a port of its own, answered by a thread of its own however busy the server is."""

import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rankport.protos.errors import Unavailable
from rankport.runtime.server.observing.metrics import CONTENT_TYPE

_log = logging.getLogger(__name__)
_POLL_S = 0.1  # until it sees that it is to end
_TIMEOUT_S = 10.0  # for a request to be sent


class MetricsPort:
    """Port that answers GET /metrics. Open from construction to `close`."""

    def __init__(self, host: str, port: int, page: Callable[[], bytes]) -> None:
        """Raises `Unavailable` if the address cannot be taken."""
        try:
            self._server = _Server((host, port), _handler(page))
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host}:{port} for metrics: {error.strerror}; "
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _handler(page: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "there is /metrics alone")
                return
            body = page()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet: a scraper comes every few seconds."""

    return Handler
