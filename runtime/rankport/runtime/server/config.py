"""Knobs of a server, with the one place for their defaults and help texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankport.protos.flags import flag
from rankport.runtime.options import check_partners, check_ranges
from rankport.runtime.server.observing.config import DEFAULTS as OBSERVING_DEFAULTS
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.security.config import DEFAULTS as SECURITY_DEFAULTS
from rankport.runtime.server.security.config import SecurityConfig

_MOST_CONNECTIONS = 1_000_000  # and calls; gRPC ends the process for what is far more


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Knobs of where a server listens and how much it takes in.

    Raises `InvalidRequest` for a value out of range.
    """

    host: str = field(
        default="127.0.0.1",
        metadata=flag("Address to listen on; 0.0.0.0 for all; unix:/PATH for a socket, without a port."),
    )
    port: int = field(
        default=8500, metadata=flag("Port to listen on; 0 takes a free one.", least=0, most=65535)
    )
    http_port: int | None = field(
        default=None,
        metadata=flag("Port for HTTP and the status page; 0 takes a free one.", least=0, most=65535),
    )
    http_host: str = field(
        default="127.0.0.1",
        metadata=flag("Address to listen on for HTTP; 0.0.0.0 for all.", needs="http_port"),
    )
    http_truncate: bool = field(
        default=False,
        metadata=flag(
            "Cut long texts of HTTP requests that do not say what to do; otherwise they fail.",
            needs="http_port",
        ),
    )
    # Behind a proxy all have one address.
    http_max_address_connections: int = field(
        default=0,
        metadata=flag(
            "Connections over HTTP of one client's address; the one that asks for nothing gives way, else more are "
            "closed; 0: as many as there may be.",
            least=0,
            needs="http_port",
        ),
    )
    fronts: int = field(
        default=0,
        metadata=flag(
            "Processes that speak the protocols and tokenize, beside one that drives each device; 0: one process does "
            "it all.",
            least=0,
            most=256,
        ),
    )
    # One of several on the same ports, with the same state file; said by who started them.
    is_front: bool = False
    # Over all models. Open calls and streams that wait for their client are none.
    max_pending_calls: int = field(
        default=512, metadata=flag("Requests worked on or waiting; more are refused.", least=1)
    )
    # A client that would wait longer has mostly gone by its turn.
    max_queue_s: float = field(
        default=30.0,
        metadata=flag(
            "Time that a request may wait for its turn, as estimated by the pace of late; else it is refused.",
            least=0.01,
        ),
    )
    max_pending_bytes: int = field(
        default=2**30,
        metadata=flag("Bytes of these together; more are refused.", least=1, metavar="SIZE", form="size"),
    )
    max_request_items: int = field(default=100_000, metadata=flag("Items of one request.", least=1))
    max_request_tokens: int = field(
        default=4_000_000, metadata=flag("Tokens of one request, prefix and items together.", least=1)
    )
    # 10,000 items of one 1,024-wide float16 token are 20 MB.
    max_message_bytes: int = field(
        default=128 * 2**20,
        metadata=flag(
            "Largest message in or out, in bytes or as 64MiB.",
            least=1,
            most=2**31 - 1,  # of protobuf
            metavar="SIZE",
            form="size",
        ),
    )
    # A round trip is nothing to a client nearby, and much to one far away.
    max_unread_bytes: int = field(
        default=0,
        metadata=flag(
            "Bytes of a message that a client may send ahead: of a refused call no more come, the rest of an accepted "
            "one comes a round trip later; 0: as gRPC does, up to megabytes.",
            least=0,
            most=2**30,
            metavar="SIZE",
            form="size",
        ),
    )
    # With the next one it bounds what open calls take, 21 kB each, whoever opens them.
    max_connections: int = field(
        default=1000,
        metadata=flag("Connections; more are closed as they come.", least=1, most=_MOST_CONNECTIONS),
    )
    max_connection_calls: int = field(
        default=512,
        metadata=flag(
            "Calls that one connection has open; its client holds back the rest.",
            least=1,
            most=_MOST_CONNECTIONS,
        ),
    )
    max_connection_streams: int = field(
        default=64,
        metadata=flag("Streams of a kind that one connection has open; more are refused.", least=1),
    )
    # The tokenizers release the interpreter lock.
    tokenizer_threads: int = field(
        default=4, metadata=flag("Threads that read and tokenize requests.", least=1)
    )
    # One computes while the next is tokenized.
    stream_window: int = field(default=2, metadata=flag("Messages of one encode stream worked on.", least=1))
    score_stream_window: int = field(
        default=32, metadata=flag("Messages of one stream of scores worked on.", least=1)
    )
    # An idle stream costs little, and a source that fills its messages slowly is none.
    stream_idle_s: float = field(
        default=600.0,
        metadata=flag(
            "Seconds after which a call whose client neither sends nor reads is ended.", least=0.01
        ),
    )
    # With what follows it less than the 30 s that Kubernetes and Docker Compose users are used to.
    grace_s: float = field(default=25.0, metadata=flag("Time for calls in progress at a stop.", least=0))
    lame_duck_s: float = field(
        default=0.0,
        metadata=flag(
            "Time at a stop, before grace, in which health is NOT_SERVING and calls are answered: as long as load "
            "balancers take to notice.",
            least=0,
        ),
    )
    # Clients that spread over several servers find those that came later.
    max_connection_age_s: float = field(
        default=0.0,
        metadata=flag(
            "Have clients connect anew after so long, ± 10 %, losing no call; 0: never.", least=0, most=1e6
        ),
    )
    model_roots: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "Folder below which bundles may be loaded while it runs; may be given again. None: no bundle is.",
            name="--model-root",
            form="repeat",
            metavar="DIRECTORY",
        ),
    )
    state_file: str | None = field(
        default=None,
        metadata=flag(
            "File that keeps aliases, and bundles loaded while it runs, over a restart. [default: none is kept]",
            metavar="FILE",
        ),
    )
    jobs_file: str | None = field(
        default=None,
        metadata=flag(
            "File that keeps offline jobs, which then may be created. [default: none may be]", metavar="FILE"
        ),
    )
    job_roots: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "Folder below which jobs read files and write token stores, or URL (s3://BUCKET/PATH/) below which they "
            "read; may be given again.",
            name="--job-root",
            form="repeat",
            metavar="DIRECTORY|URL",
            needs="jobs_file",
        ),
    )
    warm_up_s: float = field(
        default=300.0,
        metadata=flag("Time for the first request of a model loaded while it runs.", least=0.01),
    )
    canary_seed: int = field(
        default=0, metadata=flag("Seed of the draws between an alias's versions, for requests without an id.")
    )
    security: SecurityConfig = SECURITY_DEFAULTS
    observing: ObservingConfig = OBSERVING_DEFAULTS
    score_cache_bytes: int = field(
        default=0,
        metadata=flag(
            "Scores kept by all that they depend on, in bytes or as 1GiB; 0 keeps none.",
            name="--score-cache",
            least=0,
            metavar="SIZE",
            form="size",
        ),
    )
    depth_mark: int = field(
        default=0,
        metadata=flag(
            "Requests pending above which only the first --depth-items of each are scored; 0: all always.",
            least=0,
        ),
    )
    depth_items: int = field(
        default=100,
        metadata=flag("Items of a request that are scored above --depth-mark.", least=1, needs="depth_mark"),
    )
    # Threads that read and tokenize let the one that drives the device go on this soon: by default it would wait 5 ms
    # for each of them after every call of the device, far longer than a pass takes. None: as the interpreter is.
    switch_interval_s: float | None = 2e-4

    def __post_init__(self) -> None:
        check_ranges(self)
        check_partners(self)

    @property
    def hosts(self) -> Mapping[str, str]:
        """Addresses that calls come by, by option."""
        hosts = {"host": self.host}
        hosts |= {} if self.http_port is None else {"http_host": self.http_host}
        hosts |= {} if self.observing.metrics_port is None else {"metrics_host": self.observing.metrics_host}
        return hosts | ({} if self.security.admin_port is None else {"admin_host": self.security.admin_host})


DEFAULTS = ServerConfig()
