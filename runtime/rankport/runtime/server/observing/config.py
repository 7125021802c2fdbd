"""Knobs of what a server shows of itself."""

from dataclasses import dataclass, field

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.options import check_partners, check_ranges

_LEAST_HUNG_S = 2.0
_HOPELESS = 5  # times as long as a stuck pass is one that never ends


@dataclass(frozen=True, slots=True)
class ObservingConfig:
    """Knobs of metrics, logs and readiness. Raises `InvalidRequest` for a value out of range."""

    metrics_port: int | None = field(
        default=None,
        metadata=flag(
            "Port of /metrics for Prometheus; 0 takes a free one. [default: none]", least=0, most=65535
        ),
    )
    metrics_host: str = field(
        default="127.0.0.1", metadata=flag("Address of --metrics-port.", needs="metrics_port")
    )
    log_requests: float = field(
        default=0.0,
        metadata=flag(
            "Share of the requests that get a line in the log, 1 for all; never their texts.", least=0, most=1
        ),
    )
    slow_request_s: float = field(
        default=5.0,
        metadata=flag(
            "Seconds from which on a request gets a warning in the log, streams apart; 0: none.", least=0
        ),
    )
    # Longer than any pass takes, the first of a shape on a GPU included.
    stuck_pass_s: float = field(
        default=60.0,
        metadata=flag(
            "Seconds in one pass after which health of its model is NOT_SERVING, and five times as many after which "
            "the server is not live, or the engine's process is started again; 0: never.",
            least=0,
        ),
    )
    # Many times what a busy machine makes a process wait for its turn; time without a core does not count.
    hung_process_s: float = field(
        default=10.0,
        metadata=flag(
            "Seconds without a sign of life after which a process of --fronts, or an engine's, is ended and started "
            "again; 0: never.",
            least=0,
        ),
    )
    # Where all servers are saturated there is nowhere else to go: refusals with a hint are better than none.
    saturated_s: float = field(
        default=0.0,
        metadata=flag(
            "Seconds of refusals for overload without a pause after which health is NOT_SERVING; 0: never.",
            least=0,
        ),
    )

    @property
    def hopeless_pass_s(self) -> float:
        """Seconds in one pass after which nothing but a new process helps; 0: never."""
        return _HOPELESS * self.stuck_pass_s

    def __post_init__(self) -> None:
        check_ranges(self)
        check_partners(self)
        if 0 < self.hung_process_s < _LEAST_HUNG_S:
            raise InvalidRequest(
                f"hung_process_s (--hung-process-s) is {self.hung_process_s:g}: it must be 0 for never, or at least "
                f"{_LEAST_HUNG_S:g}, which is several signs of life"
            )


DEFAULTS = ObservingConfig()
