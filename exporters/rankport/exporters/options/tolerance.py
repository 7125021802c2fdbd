"""The distance that an export may have from its source. Imports little, for the command line shows the defaults."""

from dataclasses import dataclass, field, fields

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag

EXACT_NDCG_LOSS = 1e-3
"""An export computes what its source computes: NDCG differs by ties at most, in either direction."""
LOW_BIT_NDCG_LOSS = 1e-2
"""NDCG that quantization at export may cost against the full-precision source; to gain is no failure."""


EXACT_ABS_ERROR = 1e-4
EXACT_RELATIVE_ERROR = 1e-2
"""Beside it, where neither is asked for: what is small altogether may not be wrong altogether."""
EXACT_KENDALL_TAU = 0.999
FLOAT16_KENDALL_TAU = 0.99
"""Enough for embedding tokens that are rounded to float16."""
ROUNDED_RELATIVE_ERROR = 1e-2
FLOAT16_RELATIVE_ERROR = 5e-3
"""Limit of graphs in float16 whose activations are not rounded to low bits: less than bfloat16 would be off by."""
ROUNDED_KENDALL_TAU = 0.99
"""Enough where activations are rounded: the last bit of a sum decides a rounding, which swaps near ties."""
EXACT_AGREEMENT = (1e-3, 0.99, 0.9999)
ROUNDED_AGREEMENT = (2e-2, 0.95, 0.99)
"""Largest error, least Kendall tau and least cosine to the owner's own scores, whose pipeline may round too."""
LARGEST_RELATIVE_ERROR = 0.1
LEAST_KENDALL_TAU = 0.9
"""However noisy a source is, an export must be this close to it."""


_AT_MOST_ONE = ("min_kendall_tau", "min_reference_tau", "min_reference_cosine")
_OF_REFERENCE = ("max_reference_error", "min_reference_tau", "min_reference_cosine")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits that an export must reach in every mode, and on judged requests."""

    # None: EXACT_ABS_ERROR, of embeddings times the root mean square of their values where that is above 1.
    max_abs_error: float | None = field(
        default=None,
        metadata=flag(
            "Largest difference of a logit (or a token's value, beyond its float16 rounding) from the source. "
            f"[default: {EXACT_ABS_ERROR}, of embeddings times the root mean square of their values where that is "
            "above 1]"
        ),
    )
    # None: ROUNDED_RELATIVE_ERROR, FLOAT16_RELATIVE_ERROR, or twice the noise of the source itself where that is more:
    # see `limits.summarize`; where nothing is rounded see `exact_relative_error`.
    max_relative_error: float | None = field(
        default=None,
        metadata=flag(
            "Largest |difference| / |source| over a mode's values: beside --max-abs-error, and instead of it in half "
            "precision or where activations are rounded to low bits. "
            f"[default: {EXACT_RELATIVE_ERROR}, or none beside a --max-abs-error that is given; where results are "
            f"rounded {ROUNDED_RELATIVE_ERROR}, of fp16 alone {FLOAT16_RELATIVE_ERROR}, or twice the source's own "
            "noise where that is more]"
        ),
    )
    # Mean over requests.
    min_kendall_tau: float | None = field(
        default=None,
        metadata=flag(
            f"Least rank agreement with the source. [default: {EXACT_KENDALL_TAU}; of float16 tokens "
            f"{FLOAT16_KENDALL_TAU}; in half precision and of rounded activations {ROUNDED_KENDALL_TAU}, or less as "
            "the source's noise allows]"
        ),
    )
    # At 1 and at 10.
    max_ndcg_loss: float | None = field(
        default=None,
        metadata=flag(
            "Largest difference of NDCG from the source; quantized at export: largest loss. "
            f"[default: {EXACT_NDCG_LOSS}, quantized at export {LOW_BIT_NDCG_LOSS}]"
        ),
    )
    max_reference_error: float | None = field(
        default=None,
        metadata=flag(
            "Largest difference from a score of --reference, after its transform. "
            f"[default: {EXACT_AGREEMENT[0]}; in half precision or low bits {ROUNDED_AGREEMENT[0]}]"
        ),
    )
    # Mean over requests.
    min_reference_tau: float | None = field(
        default=None,
        metadata=flag(
            "Least rank agreement with the scores of --reference. "
            f"[default: {EXACT_AGREEMENT[1]}; in half precision or low bits {ROUNDED_AGREEMENT[1]}]"
        ),
    )
    min_reference_cosine: float | None = field(
        default=None,
        metadata=flag(
            "Least cosine with an embedding of --reference. "
            f"[default: {EXACT_AGREEMENT[2]}; in half precision or low bits {ROUNDED_AGREEMENT[2]}]"
        ),
    )

    def __post_init__(self) -> None:
        for name in (limit.name for limit in fields(self)):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidRequest(f"--{name.replace('_', '-')} is {value}: must be a number from 0 on")
            if value is not None and name in _AT_MOST_ONE and value > 1:
                raise InvalidRequest(f"--{name.replace('_', '-')} is {value}: nothing is above 1")

    @property
    def exact_abs_error(self) -> float:
        """Largest difference where nothing is rounded, of values around 1."""
        return EXACT_ABS_ERROR if self.max_abs_error is None else self.max_abs_error

    @property
    def exact_relative_error(self) -> float | None:
        """Largest share of the source where nothing is rounded; None beside an absolute limit that was asked for."""
        if self.max_relative_error is None and self.max_abs_error is None:
            return EXACT_RELATIVE_ERROR
        return self.max_relative_error

    @property
    def exact_kendall_tau(self) -> float:
        """Least rank agreement where nothing is rounded."""
        return EXACT_KENDALL_TAU if self.min_kendall_tau is None else self.min_kendall_tau


def require_tolerance(value: object, *, judged: bool, reference: bool) -> None:
    """Raises InvalidRequest for what is no `Tolerance`, with how to make one, and for a limit of files not given."""
    if not isinstance(value, Tolerance):
        limits = ", ".join(limit.name for limit in fields(Tolerance))
        raise InvalidRequest(
            f"tolerance is {value!r}: give a rankport.exporters.options.tolerance.Tolerance of {limits}, "
            "as Tolerance(max_abs_error=1e-3)"
        )
    if value.max_ndcg_loss is not None and not judged:
        raise InvalidRequest("--max-ndcg-loss goes with --judged, over whose requests NDCG is taken")
    for name in _OF_REFERENCE:
        if getattr(value, name) is not None and not reference:
            raise InvalidRequest(f"--{name.replace('_', '-')} goes with --reference, which it is a limit of")
