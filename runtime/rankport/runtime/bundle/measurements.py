"""Parts of a manifest: what was measured of a bundle, and what it had to reach."""

from typing import Self

from pydantic import model_validator

from rankport.runtime.bundle.strict import Strict


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


class Parity(Strict):
    """Measured against the checkpoint run by transformers in fp32, low-bit layers by their maths in torch."""

    backend: str
    precision: str
    max_abs_tolerance: float | None  # null where activations are rounded: max_relative_tolerance holds
    max_relative_tolerance: float | None = None
    min_kendall_tau: float
    modes: list[ModeParity]
    # The source against itself with inputs off by one part in a million, where activations are rounded.
    noise: ModeParity | None = None

    @model_validator(mode="after")
    def _one_tolerance(self) -> Self:
        if (self.max_abs_tolerance is None) == (self.max_relative_tolerance is None):
            raise ValueError("needs one of max_abs_tolerance and max_relative_tolerance")
        return self

    def share(self, mode: ModeParity) -> float:
        """Returns the mode's error as a share of the tolerance."""
        if self.max_abs_tolerance is not None:
            error, most = mode.max_abs_error, self.max_abs_tolerance
        else:
            assert self.max_relative_tolerance is not None
            error = float("nan") if mode.relative_error is None else mode.relative_error
            most = self.max_relative_tolerance
        return error / most if most else (0.0 if error == 0 else float("inf"))

    def holds(self, mode: ModeParity) -> bool:
        """Says whether the mode is within the tolerances; a NaN is not."""
        return self.share(mode) <= 1 and mode.kendall_tau >= self.min_kendall_tau

    @property
    def limits(self) -> str:
        """Tolerances in words."""
        if self.max_abs_tolerance is not None:
            return f"max abs error {self.max_abs_tolerance:.1e}, Kendall tau {self.min_kendall_tau:.4g}"
        return f"relative error {self.max_relative_tolerance:.1e}, Kendall tau {self.min_kendall_tau:.4g}"


class Quality(Strict):
    """Ranking quality on judged requests, source against bundle."""

    requests: int
    ndcg_at_1_source: float
    ndcg_at_1_bundle: float
    ndcg_at_10_source: float
    ndcg_at_10_bundle: float


class TokenizationReport(Strict):
    """Report of how often the joined text would have tokenized differently from the joined segments."""

    samples: int
    different: int
    source: str  # where the sampled texts came from
