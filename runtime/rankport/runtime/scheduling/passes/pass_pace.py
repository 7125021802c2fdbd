"""`PassPace`: how many tokens make a pass long enough that no further request shares it.

Owns that estimate, by how long passes took of late. A pass ends for all of its requests at once: from where the device
is at full speed on, whoever joins it comes no sooner than in a pass of its own, and the others later. Short passes are
shared whatever: beside what each costs in itself nobody waits long. Passes of several instances each count by
themselves: their pace is that of one.
"""

import threading
from collections.abc import Callable

from rankport.runtime.backends.contract import FloatT, Started

_FULL_SPEED_TOKENS = 256  # from about as many on a processor computes no faster
_MEMORY_S = 2.0  # of passes, after which half of the experience counts


class PassPace:
    """Pace of the passes that the device computes while it is called, and what follows for the next one."""

    def __init__(self, max_shared_pass_s: float, clock: Callable[[], float]) -> None:
        """Has passes that take more than so many seconds, by the pace of late, not be shared."""
        self._max_shared_pass_s, self._clock = max_shared_pass_s, clock
        self._lock = threading.Lock()  # guards both, which threads of instances note
        self._tokens = self._elapsed_s = 0.0

    def timed(self, start: Callable[[], Started[FloatT]], tokens: int) -> Started[FloatT]:
        """Starts a pass of so many tokens; raises what `start` does."""
        begun_s = self._clock()
        started = start()
        if started.done:
            self._note(tokens, self._clock() - begun_s)
        return started

    @property
    def enough_tokens(self) -> int | None:
        """Tokens from which on a pass takes no further request; None: as many as fit, as far as is known."""
        with self._lock:
            tokens, elapsed_s = self._tokens, self._elapsed_s
        if elapsed_s <= 0:
            return None
        return max(int(tokens / elapsed_s * self._max_shared_pass_s), _FULL_SPEED_TOKENS)

    def _note(self, tokens: int, elapsed_s: float) -> None:
        with self._lock:
            self._tokens += tokens
            self._elapsed_s += elapsed_s
            if self._elapsed_s > _MEMORY_S:
                self._tokens, self._elapsed_s = self._tokens / 2, self._elapsed_s / 2
