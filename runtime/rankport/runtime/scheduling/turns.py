"""`Turns`: who is next and how much at a time, so that the tokens of a device are shared fairly. Plain numbers.

Owns the order of the active requests and how much of a pass large ones may take; what fits together, `pass_plan` knows.

Every pass gives each active request an equal share of its tokens as a credit and takes off what the request had of it:
what is left says how many tokens it is owed. Small requests come first, in the order of their arrival, for they are
done at once; but whoever is owed as much as a large one may have of a pass goes before them in every other pass, so
that no stream of small ones stops it. While small ones come, large ones have a bounded part of a pass, so that the next
small one waits little.
"""

from collections.abc import Iterable, Sequence

from rankport.runtime.scheduling.work import RequestT

_CALM_PASSES = 32  # without a small request beside another, after which large ones have whole passes again

_TURNS_OWED = 2  # that all large requests may be owed at once


class Turns:
    """Turns of requests, of which those over `bulk_tokens` count as large."""

    def __init__(self, bulk_tokens: int) -> None:
        self._bulk_tokens = bulk_tokens
        self._paid = False  # in the last pass: one that was owed much went first
        self._calm = _CALM_PASSES  # passes since a small request was there beside another

    def order(self, active: Sequence[RequestT]) -> list[RequestT]:
        """Orders requests, given as they came, by whose turn it is in the next pass."""
        ordered = sorted(active, key=_rank)
        most = max(active, key=lambda request: request.owed)
        self._paid = not self._paid and most.owed >= self._bulk_tokens
        if self._paid:
            ordered.remove(most)
            ordered.insert(0, most)
        return ordered

    def size(self, request: RequestT) -> None:
        """Notes whether a prepared request is large, by what it has to compute in all."""
        request.large = request.to_compute > self._bulk_tokens

    def bulk_limit(self, active: Sequence[RequestT]) -> int | None:
        """Limits the tokens that large requests may have of the next pass together. None: a lone one takes it whole."""
        crowded = len(active) > 1 and not all(request.large for request in active)
        self._calm = 0 if crowded else self._calm + 1
        return self._bulk_tokens if self._calm < _CALM_PASSES else None

    def charge(self, active: Sequence[RequestT], served: Iterable[tuple[RequestT, int]]) -> None:
        """Notes the tokens that some of the active requests had of a pass."""
        taken = dict(served)
        share = sum(taken.values()) / len(active)
        for request in active:
            # Alone it is owed nothing, and what it had beyond its share is not held against it for ever.
            owed = request.owed + share - taken.get(request, 0) if len(active) > 1 else 0.0
            request.owed = max(owed, -float(self._bulk_tokens))
        self._forgive([request for request in active if request.large])

    def _forgive(self, large: Sequence[RequestT]) -> None:
        """Takes from all alike what all are owed beyond a few turns: one that comes later is not behind for long."""
        excess = min((request.owed for request in large), default=0.0) - _TURNS_OWED * self._bulk_tokens
        for request in large:
            request.owed -= max(excess, 0.0)


def _rank(request: RequestT) -> tuple[bool, float]:
    return (True, -request.owed) if request.large else (False, 0.0)
