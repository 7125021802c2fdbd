"""`BackgroundTurns`: which class of priority the next pass is for. Plain numbers.

Interactive requests come first, always, but for a stated share of the tokens: what the background is owed by it is paid
in short passes of its own, so that no stream of interactive requests stops it.
"""

from collections.abc import Sequence

from rankport.runtime.scheduling.work import RequestT


def interactive(active: Sequence[RequestT]) -> list[RequestT]:
    """Lists the requests that somebody waits for."""
    return [request for request in active if request.priority == "interactive"]


class BackgroundTurns:
    """Account of the tokens that the background is owed while interactive requests are there."""

    def __init__(self, share: float, turn_tokens: int) -> None:
        """Owes it `share` of all tokens, from 0 to below 1, and pays when that is as much as a turn has."""
        self._share, self._turn_tokens = share, turn_tokens
        self._owed = 0.0
        self.paying = False  # the next pass is the background's, with interactive requests about

    def next_class(self, active: Sequence[RequestT]) -> Sequence[RequestT]:
        """Takes those of the active requests that the next pass is for."""
        first = interactive(active)
        if len(first) in (0, len(active)):
            self.paying = False
            return active
        self.paying = not self.paying and self._share > 0 and self._owed >= self._turn_tokens
        return [request for request in active if request.priority == "background"] if self.paying else first

    def charge(self, active: Sequence[RequestT], tokens: int, *, background: bool) -> None:
        """Notes the tokens of a pass, which was of the background or not."""
        if len(interactive(active)) in (0, len(active)):
            self._owed = 0.0  # it has all there is, or wants nothing
            return
        owed = self._owed + self._share * tokens - (tokens if background else 0)
        self._owed = min(max(owed, -float(self._turn_tokens)), 2.0 * self._turn_tokens)
