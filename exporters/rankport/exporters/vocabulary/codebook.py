"""A codebook on disk: one vector for each new token, in the order of their ids.

.npy: [tokens, width], or [levels, codes, width], read level after level. .npz: one such array, or one [codes, width]
array a level, taken in the order of their names. Never unpickles.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.files.arrays import UNREADABLE
from rankport.protos.reasons import array_reason
from rankport.protos.wording import counted


def read_codebook(file: Path, tokens: int) -> NDArray[np.float32]:
    """Reads vectors of `tokens` new tokens, [tokens, width]. InvalidRequest names the file and what does not fit."""
    try:
        content = np.load(file, allow_pickle=False)
        arrays = [content] if isinstance(content, np.ndarray) else [content[name] for name in sorted(content)]
    except UNREADABLE as error:
        raise InvalidRequest(
            f"--codebook {file} cannot be read as .npy or .npz: {array_reason(error)}"
        ) from error
    if not arrays or any(array.ndim not in (2, 3) or array.dtype.kind != "f" for array in arrays):
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays) or "no array"
        raise InvalidRequest(
            f"--codebook {file} holds {shapes}: floats [tokens, width] or [levels, codes, width] are needed"
        )
    levels = [array.reshape(-1, array.shape[-1]) for array in arrays]
    if len({level.shape[1] for level in levels}) != 1:
        raise InvalidRequest(f"--codebook {file} has levels of different widths")
    vectors: NDArray[np.float32] = np.concatenate(levels).astype(np.float32)
    if len(vectors) != tokens:
        raise InvalidRequest(
            f"--codebook {file} has {counted(len(vectors), 'vector')} for {tokens} new tokens"
        )
    if not np.isfinite(vectors).all():
        raise InvalidRequest(f"--codebook {file} holds NaN or infinity")
    return vectors
