"""Log-probabilities of logits, summed where float32 would lose digits."""

import numpy as np
from numpy.typing import NDArray


def log_sums(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Computes log of the sum of exp of each row; no number for a row that has none, or infinity. [rows]"""
    most = logits.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        sums = np.exp(logits - most).sum(axis=1, dtype=np.float64)
    result: NDArray[np.float64] = np.log(sums) + most[:, 0]
    return result
