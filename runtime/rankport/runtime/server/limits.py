"""Limits of one request: what is over them is refused before anything is made of it."""

from dataclasses import dataclass

from rankport.protos.errors import LimitExceeded
from rankport.protos.messages.request_size import RequestSize
from rankport.protos.wording import counted
from rankport.runtime.server.config import ServerConfig


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Most that one request, or its answer, may be."""

    items: int
    tokens: int
    message_bytes: int

    @classmethod
    def of(cls, config: ServerConfig) -> "RequestLimits":
        """Takes the limits of the settings."""
        return cls(config.max_request_items, config.max_request_tokens, config.max_message_bytes)

    def check(self, size: RequestSize) -> None:
        """Raises `LimitExceeded` for too many items, or tokens as far as they are known before texts are tokenized."""
        if size.items > self.items:
            raise LimitExceeded(
                f"the request has {counted(size.items, 'item')}, this server takes {self.items} "
                "(max_request_items): send fewer "
                "at once"
            )
        if size.tokens > self.tokens:
            raise LimitExceeded(
                f"the request has {counted(size.tokens, 'token')}, this server takes {self.tokens} "
                "(max_request_tokens): send "
                "fewer at once"
            )

    def check_bytes(self, nbytes: int, what: str = "the request") -> None:
        """Raises `LimitExceeded` for a message, `what` names it, that is too large."""
        if nbytes > self.message_bytes:
            raise LimitExceeded(
                f"{what} has {nbytes} bytes, this server takes {self.message_bytes} a message (max_message_bytes): "
                "send fewer items at once"
            )
