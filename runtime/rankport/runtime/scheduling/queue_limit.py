"""Limits of the queue: `Overloaded` where too many requests or tokens wait, `LimitExceeded` for one that is too large.

How long they wait is limited by each caller's timeout alone: what would take longer is not taken in, as `backlog`
estimates it, and `worker` drops those whose time is over.
"""

from rankport.protos.errors import LimitExceeded, Overloaded
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.backlog import Backlog


class QueueLimit:
    """Requests and tokens that wait, against their limits. Not thread-safe: its owner's lock guards it."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._requests = self._tokens = 0
        self._backlog = Backlog(config)

    @property
    def requests(self) -> int:
        """Requests that wait."""
        return self._requests

    @property
    def tokens(self) -> int:
        """Tokens that they have."""
        return self._tokens

    def enter(self, tokens: int, left_s: float | None = None) -> None:
        """Takes in a request of so many tokens. Raises `Overloaded` if there is no room; one alone always has.

        Raises it as well if the time `left_s` of the request's timeout is less than those before it will take.

        Raises `LimitExceeded` for one of more tokens than a request may have.
        """
        config = self._config
        if config.max_request_tokens is not None and tokens > config.max_request_tokens:
            raise LimitExceeded(
                f"the request has {tokens} tokens, the limit is {config.max_request_tokens} (max_request_tokens): "
                "send fewer items at once"
            )
        if self._requests >= config.max_queued_requests or (
            self._requests and self._tokens + tokens > config.max_queued_tokens
        ):
            raise Overloaded(
                f"the queue is full: {self._requests} requests (max_queued_requests {config.max_queued_requests}) and "
                f"{self._tokens} tokens (max_queued_tokens {config.max_queued_tokens}) wait, and this request has "
                f"{tokens} tokens: retry later, or raise the limit"
            )
        self._backlog.check(tokens, left_s)
        self._backlog.enter(tokens)
        self._requests += 1
        self._tokens += tokens

    def leave(self, tokens: int) -> None:
        """Notes that such a request waits no longer."""
        self._requests -= 1
        self._tokens -= tokens

    def end(self, tokens: int, *, answered: bool, busy_s: float) -> None:
        """Notes that such a request is done with, when the engine has been busy for `busy_s` in all."""
        self._backlog.leave(tokens, answered=answered, busy_s=busy_s)
