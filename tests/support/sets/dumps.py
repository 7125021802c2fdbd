"""Dumps of dynamic embedding tables in the layout of their training: raw keys and rows, a pair of files a rank."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

COLLECTION = "dynamicemb_module/model._embedding_collection._model_parallel_embedding_collection"


def dumped(
    folder: Path, table: str, rows: Tensor, *, ranks: int = 1, keys: NDArray[np.int64] | None = None
) -> Path:
    """Writes rows [keys, width], of the keys 0, 1, ... unless they are given, each at the rank of its remainder."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(rows), dtype=np.int64) if keys is None else keys
    shuffled = np.random.default_rng(0).permutation(len(ids))
    for rank in range(ranks):
        own = shuffled[ids[shuffled] % ranks == rank]
        parts = {
            "emb_keys": ids[own].astype("<i8"),
            "emb_values": rows.numpy()[own].astype("<f4"),
            "emb_scores": np.ones(len(own), "<i8"),
            "emb_opt_values": np.ones((len(own), 2), "<f4"),
        }
        for part, values in parts.items():
            (folder / f"{table}_{part}.rank_{rank}.world_size_{ranks}").write_bytes(values.tobytes())
    (folder / f"{table}_opt_args.json").write_text("{}")
    return folder
