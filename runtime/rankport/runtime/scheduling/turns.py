"""`Turns`: who is next and how much at a time, so that the tokens of a device are shared fairly. Plain numbers.

Owns the order of the active requests and how much of a pass large ones may take; what fits together, `pass_plan` knows.

Every pass gives each active request an equal share of its tokens as a credit and takes off what the request had of it:
what is left says how many tokens it is owed. Small requests come first, in the order of their arrival, for they are
done at once; but whoever is owed as much as a large one may have of a pass goes before them, so that no stream of small
ones stops it. While small ones come, large ones have a bounded part of a pass, so that the next small one waits little.
"""

from collections.abc import Iterable, Sequence

from rankport.runtime.scheduling.work import RequestT

_CALM_PASSES = 32  # without a small request beside another, after which large ones have whole passes again


class Turns:
    """Turns of requests, of which those over `bulk_tokens` count as large."""

    def __init__(self, bulk_tokens: int) -> None:
        self._bulk_tokens = bulk_tokens
        self._calm = _CALM_PASSES  # passes since a small request was there beside another

    def order(self, active: Sequence[RequestT]) -> list[RequestT]:
        """Orders requests, given as they came, by whose turn it is."""
        return sorted(active, key=self._rank)

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

    def _rank(self, request: RequestT) -> tuple[int, float]:
        if request.owed >= self._bulk_tokens:
            return 0, -request.owed
        return (2, -request.owed) if request.large else (1, 0.0)
