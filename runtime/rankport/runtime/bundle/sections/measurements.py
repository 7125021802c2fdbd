"""Parts of a manifest: what was measured of a bundle, and what it had to reach."""

from typing import Literal, Self

from pydantic import model_validator

from rankport.runtime.bundle.strict import Sha256, Strict


class ModeParity(Strict):
    """Differences from the source in one mode."""

    mode: str
    items: int
    max_abs_error: float
    mean_abs_error: float
    kendall_tau: float
    top_k_agreement: float
    # |bundle - source| / |source|, Euclidean norms over all values; null in bundles older than the field
    relative_error: float | None = None
    requests: int | None = None  # that the items belong to


class BatchIndependence(Strict):
    """Counts the requests whose ranking depends on what shares their passes.

    Two items that are ties at the smallest size have no order to lose.
    """

    requests: int
    items: int
    sizes: list[int]  # items in a pass, ascending
    top: int  # first places that are looked at
    changed: (
        int  # requests in which one of these fell behind an item that it was ahead of in the smallest passes
    )
    max_abs_difference: float  # of what orders the items, between a size and the smallest

    @property
    def in_words(self) -> str:
        """Count in words."""
        sizes = ", ".join(map(str, self.sizes))
        return (
            f"batch independence: over passes of {sizes} items {self.changed} of {self.requests} requests change among "
            f"their first {self.top}; what orders them moves by up to {self.max_abs_difference:.1e}"
        )


class OrderDependence(Strict):
    """Changes of a request's ranking with the order in which its items are given, of the bundle against itself."""

    requests: int
    items: int
    orders: int  # drawn of each request, beside the one that it was given in
    kendall_tau: float  # mean, of the ranking in another order to that in the given one
    least_kendall_tau: float
    first_changed: int  # orders, of all requests, in which another item came first
    max_score_move: float  # of an item's score, between two orders

    @property
    def in_words(self) -> str:
        """Figures in words."""
        return (
            f"order dependence: over {self.orders} other orders of each of {self.requests} requests Kendall tau is "
            f"{self.kendall_tau:.3f} (least {self.least_kendall_tau:.3f}), another item comes first in "
            f"{self.first_changed} of {self.orders * self.requests}, a score moves by up to {self.max_score_move:.3g}"
        )


class Parity(Strict):
    """Measured against the source that `reference` names."""

    backend: str
    precision: str
    max_abs_tolerance: float | None  # null where activations are rounded
    max_relative_tolerance: float | None = None  # beside it: an error is small for values of any size
    min_kendall_tau: float
    modes: list[ModeParity]
    # The source against itself with inputs off by one part in a million, where activations are rounded.
    noise: ModeParity | None = None
    reference: str | None = None  # what the bundle was compared with, in words
    batches: BatchIndependence | None = None  # of the bundle against itself
    order: OrderDependence | None = None  # of a kind whose scores depend on the list

    @model_validator(mode="after")
    def _has_tolerance(self) -> Self:
        if self.max_abs_tolerance is None and self.max_relative_tolerance is None:
            raise ValueError("needs max_abs_tolerance or max_relative_tolerance")
        return self

    def share(self, mode: ModeParity) -> float:
        """Returns the mode's error as a share of the tolerance, the larger of two; NaN if one is."""
        shares = self._shares(mode)
        return max(shares) if all(share == share for share in shares) else float("nan")

    def _shares(self, mode: ModeParity) -> list[float]:
        most, relative = self.max_abs_tolerance, self.max_relative_tolerance
        if most is None:
            assert relative is not None
            return [_share(mode.relative_error, relative)]
        shares = [_share(mode.max_abs_error, most)]
        # Of values next to 0 the last bit of a sum is a large share.
        if relative is not None and mode.relative_error is not None and not shares[0] <= _LAST_BITS:
            shares.append(_share(mode.relative_error, relative))
        return shares

    def holds(self, mode: ModeParity) -> bool:
        """Says whether the mode is within the tolerances; a NaN is not."""
        return self.share(mode) <= 1 and mode.kendall_tau >= self.min_kendall_tau

    @property
    def limits(self) -> str:
        """Tolerances in words."""
        most, relative = self.max_abs_tolerance, self.max_relative_tolerance
        words = [] if most is None else [f"max abs error {most:.1e}"]
        words += [] if relative is None else [f"relative error {relative:.1e}"]
        return ", ".join([*words, f"Kendall tau {self.min_kendall_tau:.4g}"])


_LAST_BITS = 0.01
"""Share of the absolute tolerance up to which an error is that of sums in fp32, however small the values are."""


def _share(error: float | None, most: float) -> float:
    if error is None:
        return float("nan")
    return error / most if most else (0.0 if error == 0 else float("inf"))


class Quality(Strict):
    """Ranking quality on judged requests, source against bundle."""

    requests: int
    ndcg_at_1_source: float
    ndcg_at_1_bundle: float
    ndcg_at_10_source: float
    ndcg_at_10_bundle: float
    max_ndcg_loss: float | None = None  # that was allowed, at 1 and at 10


class Agreement(Strict):
    """Agreement with what the owner's own pipeline gave for the same texts, and what it had to reach.

    The bundle answers through its whole runtime: prompt, tokenizer, graphs, scores. A measure without a use is null.
    """

    sha256: Sha256  # of the owner's file
    compared: Literal["scores", "embeddings", "similarities"]
    transform: str  # applied to the owner's score before it is compared; "rank": only the order is
    requests: int
    items: int
    truncated: int  # items, or texts, cut to the bundle's limits
    max_abs_error: float | None = None
    mean_abs_error: float | None = None
    pearson: float | None = None
    kendall_tau: float | None = None  # mean over requests
    least_cosine: float | None = None  # over embeddings
    max_abs_tolerance: float | None = None
    min_kendall_tau: float | None = None
    min_cosine: float | None = None

    @property
    def misses(self) -> tuple[str, ...]:
        """Measures that are beyond their limits, each beside it; a NaN is."""
        checks = (
            ("max abs error", self.max_abs_error, self.max_abs_tolerance, -1),
            ("Kendall tau", self.kendall_tau, self.min_kendall_tau, 1),
            ("least cosine", self.least_cosine, self.min_cosine, 1),
        )
        return tuple(
            f"{name} {value:.6g}, allowed {limit:.6g}"
            for name, value, limit, sign in checks
            if value is not None and limit is not None and not sign * value >= sign * limit
        )


class TokenizationReport(Strict):
    """Report of how often a request's text, tokenized at once, has other tokens than the bundle serves."""

    samples: int
    different: int
    source: str  # where the sampled texts came from

    @property
    def in_words(self) -> str:
        """Says what was found, and what to do about it, in one sentence."""
        if not self.different:
            return f"all of {self.samples} {self.source} have the tokens of their text tokenized at once"
        return (
            f"{self.different} of {self.samples} {self.source} have other tokens here than their text tokenized at "
            "once, so scores differ from a pipeline that tokenizes at once: say joined = true at the edges of the "
            "prompt, or use a preset; leave it only if the model was trained on segments tokenized apart"
        )
