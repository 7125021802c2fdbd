"""`Turns`: who is next and how much at a time, so that the tokens of a device are shared fairly. Plain numbers.

Owns the order of the active requests and how much of a pass large ones may take; what fits together, `pass_plan` knows.

Every pass gives each active request an equal share of its tokens as a credit and takes off what the request had of it:
what is left says how many tokens it is owed. Small requests come first, in the order of their arrival, for they are
done at once; but whoever is owed as much as a large one may have of a pass goes before them in every other pass, so
that no stream of small ones stops it. While small ones come, large ones have a bounded part of a pass, so that the next
small one waits little.

All this holds within a class of priority; `background` says which class a pass is for. Requests in the background all
count as large: nobody waits for them, and fair is what shares their tokens alike.
"""

from collections.abc import Iterable, Sequence

from rankport.runtime.scheduling.queue.background import BackgroundTurns, interactive
from rankport.runtime.scheduling.work import RequestT

_CALM_PASSES = 32  # without a small request beside another, after which large ones have whole passes again

_TURNS_OWED = 2  # that all large requests may be owed at once


class Turns:
    """Turns of requests, of which those over `bulk_tokens` count as large."""

    def __init__(self, bulk_tokens: int, background_share: float = 0.1) -> None:
        """Gives the background `background_share` of the tokens while interactive requests are there."""
        self._bulk_tokens = bulk_tokens
        self._background = BackgroundTurns(background_share, bulk_tokens)
        self._paid = False  # in the last pass: one that was owed much went first
        self._calm = _CALM_PASSES  # passes since a small request was there beside another
        self._unasked = _CALM_PASSES  # passes since an interactive request was there

    def order(self, active: Sequence[RequestT]) -> list[RequestT]:
        """Orders those of the requests, given as they came, that the next pass is for by whose turn it is."""
        ordered = sorted(self._background.next_class(active), key=_rank)
        most = max(ordered, key=lambda request: request.owed)
        self._paid = not self._paid and most.owed >= self._bulk_tokens
        if self._paid:
            ordered.remove(most)
            ordered.insert(0, most)
        return ordered

    def size(self, request: RequestT) -> None:
        """Notes whether a prepared request is large, by what it has to compute in all."""
        request.large = request.priority == "background" or request.to_compute > self._bulk_tokens

    def bulk_limit(self, active: Sequence[RequestT]) -> int | None:
        """Limits the tokens that large requests may have of the next pass together. None: a lone one takes it whole."""
        first = interactive(active)
        crowded = len(first) > 1 and not all(request.large for request in first)
        self._calm = 0 if crowded else self._calm + 1
        self._unasked = 0 if first else self._unasked + 1
        passes = self._calm if first and not self._background.paying else min(self._calm, self._unasked)
        return self._bulk_tokens if passes < _CALM_PASSES else None

    def charge(self, active: Sequence[RequestT], served: Iterable[tuple[RequestT, int]]) -> None:
        """Notes the tokens that some of the active requests had of a pass."""
        taken = dict(served)
        tokens, served_class = sum(taken.values()), next(iter(taken)).priority
        self._background.charge(active, tokens, background=served_class == "background")
        alike = [request for request in active if request.priority == served_class]
        share = tokens / len(alike)
        for request in alike:
            # Alone it is owed nothing, and what it had beyond its share is not held against it for ever.
            owed = request.owed + share - taken.get(request, 0) if len(alike) > 1 else 0.0
            request.owed = max(owed, -float(self._bulk_tokens))
        self._forgive([request for request in alike if request.large])

    def _forgive(self, large: Sequence[RequestT]) -> None:
        """Takes from all alike what all are owed beyond a few turns: one that comes later is not behind for long."""
        excess = min((request.owed for request in large), default=0.0) - _TURNS_OWED * self._bulk_tokens
        for request in large:
            request.owed -= max(excess, 0.0)


def _rank(request: RequestT) -> tuple[bool, float]:
    return (True, -request.owed) if request.large else (False, 0.0)
