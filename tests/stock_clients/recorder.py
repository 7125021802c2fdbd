"""Proxy that passes requests on to a server and keeps what clients really sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Sent = dict[str, Any]  # method, path, body
_HOP = {"host", "connection", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def recording(address: str) -> Iterator[tuple[str, list[Sent]]]:
    """Gives the URL of a proxy to the server at an address, and the requests that came until then."""
    sent: list[Sent] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on("GET", None)

        def do_POST(self) -> None:
            self._pass_on("POST", self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def _pass_on(self, method: str, body: bytes | None) -> None:
            if "inference-header-content-length" not in self.headers:  # what has tensors behind it is no JSON
                sent.append({"method": method, "path": self.path, "body": body and json.loads(body)})
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            connection = HTTPConnection(address)
            connection.request(method, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}", sent
    finally:
        proxy.shutdown()
        proxy.server_close()
