"""How far an export may be from its source. Imports little, so that the command line can show the defaults."""

from dataclasses import dataclass

from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an export must reach in every mode, and on judged requests."""

    max_abs_error: float = 1e-4  # of a logit, or of a value of an embedding token
    min_kendall_tau: float = 0.999  # mean over requests
    max_ndcg_loss: float = 1e-3  # |NDCG of the source - NDCG of the bundle|, at 1 and at 10

    def __post_init__(self) -> None:
        for name in ("max_abs_error", "min_kendall_tau", "max_ndcg_loss"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InvalidRequest(f"--{name.replace('_', '-')} is {value}: must be a number from 0 on")
