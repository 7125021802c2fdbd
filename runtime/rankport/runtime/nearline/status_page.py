"""`StatusPage`: /metrics for Prometheus and /healthz of a nearline consumer, over HTTP.

Health is 503 while something that it needs cannot be reached; lag alone is a metric.
"""

import threading
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rankport.protos.errors import StoreError, Unavailable
from rankport.protos.reasons import reason_of
from rankport.runtime.nearline.consumer import NearlineConsumer
from rankport.runtime.nearline.stream import Backlog, ChangeStream
from rankport.runtime.plain_http import PlainHandler, PlainHttpServer

_PREFIX = "rankport_nearline"
_OUTCOMES = ("encoded", "unchanged", "deleted", "stale", "dead_letters")


class StatusPage:
    """Answers until `close`; a context manager."""

    def __init__(self, consumer: NearlineConsumer, stream: ChangeStream, host: str, port: int) -> None:
        """Listens on `port` of `host`, "" for all addresses; 0 takes a free one.

        Raises `Unavailable` if it is taken.
        """
        page = self

        class Handler(PlainHandler):
            def do_GET(self) -> None:  # noqa: N802
                status, text = page.answer(self.path.partition("?")[0])
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._consumer, self._stream = consumer, stream
        try:
            self._server = PlainHttpServer(host, port, Handler)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host} port {port} for metrics: {reason_of(error)}; choose another --metrics-host "
                "or --metrics-port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="rankport-status", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self._server.server_address[1])

    def answer(self, path: str) -> tuple[int, str]:
        """Returns status and text of a path."""
        if path == "/healthz":
            trouble = self._consumer.trouble
            return (503, trouble + "\n") if trouble else (200, "ok\n")
        if path == "/metrics":
            return 200, metrics(self._consumer, self._backlog())
        return 404, "there are /metrics and /healthz\n"

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _backlog(self) -> Backlog | None:
        try:
            return self._stream.backlog()
        except StoreError:
            return None


def metrics(consumer: NearlineConsumer, backlog: Backlog | None) -> str:
    """Writes the metrics in Prometheus' text format; without those of the stream where it cannot be read."""
    counts = asdict(consumer.counts)
    lines = [f"# TYPE {_PREFIX}_changes_total counter"]
    lines += [f'{_PREFIX}_changes_total{{outcome="{name}"}} {counts[name]}' for name in _OUTCOMES]
    lines += _metric("batches_total", "counter", counts["batches"])
    lines += [
        f"# TYPE {_PREFIX}_freshness_seconds summary",
        f"{_PREFIX}_freshness_seconds_sum {counts['freshness_s_sum']}",
        f"{_PREFIX}_freshness_seconds_count {consumer.counts.done}",
    ]
    lines += _metric("up", "gauge", int(not consumer.trouble and backlog is not None))
    if backlog is not None:
        lines += _metric("pending_changes", "gauge", backlog.pending)
        lines += _metric("lag_seconds", "gauge", backlog.lag_s)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, value: float) -> list[str]:
    return [f"# TYPE {_PREFIX}_{name} {kind}", f"{_PREFIX}_{name} {value}"]
