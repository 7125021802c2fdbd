"""Knobs of `rankport nearline`, with the one place for their defaults and help texts. Imports little."""

import os
import socket
from dataclasses import dataclass, field

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.protos.types import Truncation
from rankport.runtime.options import check_ranges

CHARACTERS_PER_TOKEN = 4  # how `max_batch_tokens` counts, before any tokenizer has run


@dataclass(frozen=True, slots=True, kw_only=True)
class NearlineConfig:
    """Knobs of a consumer. Raises `InvalidRequest` for a value out of range."""

    stream: str = field(default="items", metadata=flag("Stream of Redis with the changes."))
    group: str = field(default="rankport", metadata=flag("Consumer group: one for each store and encoder."))
    consumer: str = field(default="", metadata=flag("Name in the group; empty: of this host and process."))
    max_batch_items: int = field(default=64, metadata=flag("Changes encoded at a time.", least=1))
    max_batch_tokens: int = field(
        default=8192, metadata=flag("Tokens encoded at a time; four characters count as one.", least=1)
    )
    max_wait_s: float = field(
        default=0.05,
        metadata=flag("Seconds that a change waits for others of its batch.", least=0.0, most=3600),
    )
    claim_after_s: float = field(
        default=30.0,
        metadata=flag(
            "Take over changes that their consumer has not finished for so long.", least=0.1, most=1e6
        ),
    )
    max_tries: int = field(
        default=5, metadata=flag("Deliveries of a change, then it is a dead letter.", least=1)
    )
    truncation: Truncation = field(
        default="truncate", metadata=flag("Texts over the encoder's limit: cut, or dead letters.")
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("stream", "group"):
            if not getattr(self, name):
                raise InvalidRequest(f"{name} is empty: give a name")

    @property
    def consumer_name(self) -> str:
        """Name in the group, unlike that of any other process."""
        return self.consumer or f"{socket.gethostname()}-{os.getpid()}"
