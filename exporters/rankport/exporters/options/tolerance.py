"""How far an export may be from its source. Imports little, so that the command line can show the defaults."""

from dataclasses import dataclass

from rankport.protos.errors import InvalidRequest

EXACT_NDCG_LOSS = 1e-3
"""An export computes what its source computes: NDCG differs by ties at most, in either direction."""
LOW_BIT_NDCG_LOSS = 1e-2
"""What quantization at export may cost against the full-precision source; to gain is no failure."""


EXACT_KENDALL_TAU = 0.999
FLOAT16_KENDALL_TAU = 0.99
"""Enough for embedding tokens that are rounded to float16."""
ROUNDED_RELATIVE_ERROR = 1e-2
ROUNDED_KENDALL_TAU = 0.99
"""Enough where activations are rounded: the last bit of a sum decides a rounding, which swaps near ties."""
LARGEST_RELATIVE_ERROR = 0.1
LEAST_KENDALL_TAU = 0.9
"""However noisy a source is, an export must be this close to it."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an export must reach in every mode, and on judged requests."""

    max_abs_error: float = 1e-4  # of a logit, or of a value of an embedding token
    # Of the logits together, where activations are rounded: instead of the former. None: ROUNDED_RELATIVE_ERROR, or
    # twice the noise of the source itself (see `parity.summarize`) where that is more.
    max_relative_error: float | None = None
    # Mean over requests. None: EXACT_KENDALL_TAU, and ROUNDED_KENDALL_TAU or less where activations are rounded.
    min_kendall_tau: float | None = None
    max_ndcg_loss: float | None = None  # at 1 and at 10; None: EXACT_NDCG_LOSS, or LOW_BIT_NDCG_LOSS

    def __post_init__(self) -> None:
        for name in ("max_abs_error", "max_relative_error", "min_kendall_tau", "max_ndcg_loss"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidRequest(f"--{name.replace('_', '-')} is {value}: must be a number from 0 on")

    @property
    def exact_kendall_tau(self) -> float:
        """What holds where nothing is rounded."""
        return EXACT_KENDALL_TAU if self.min_kendall_tau is None else self.min_kendall_tau
