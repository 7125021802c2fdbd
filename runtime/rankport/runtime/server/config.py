"""Every knob of a server, with the one place for its default."""

from dataclasses import dataclass

from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where a server listens and how much it takes in.

    Raises `InvalidRequest` for a value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8500  # 0 takes any free one
    # Largest message in or out. 10,000 items of one 1,024-wide float16 token are 20 MB.
    max_message_bytes: int = 128 * 2**20
    # Calls being worked on or waiting, over all models; a stream counts as one. One more is `Overloaded`.
    max_pending_calls: int = 512
    # Threads that read and tokenize requests. The tokenizers release the interpreter lock.
    tokenizer_threads: int = 4
    # Messages of one encode stream being worked on: one computes while the next is tokenized.
    stream_window: int = 2
    # Time that calls in progress have to finish when the server stops.
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidRequest(f"port is {self.port}: it must be from 0 to 65535")
        for name in ("max_message_bytes", "max_pending_calls", "tokenizer_threads", "stream_window"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not self.grace_s >= 0:
            raise InvalidRequest(f"grace_s is {self.grace_s}: it must be 0 or more")


DEFAULTS = ServerConfig()
