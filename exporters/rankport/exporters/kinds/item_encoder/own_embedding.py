"""Embeddings that an imported graph gives of a text beside its hidden states: how they are pooled is read off them.

A bundle states its pooling, and its own graph pools; what the graph's owner gets must come out.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH
from rankport.exporters.checkpoints.forms.onnx_model import EMBEDDING, OnnxModel
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.kinds.texts.samples import Runs, sample_runs
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Embedding, Pooling

_POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "last-k", "max", "mean-sqrt-len", "weighted-mean")
_LENGTHS = 12
_CLOSE = 1e-4  # as a share of the largest value


def own_rows(source: Checkpoint, runs: Runs) -> NDArray[np.float32] | None:
    """Computes the graph's own embeddings, a run at a time; None where it gives none. [runs, 1, width]"""
    model = source.model
    if not isinstance(model, OnnxModel) or not model.gives_embeddings:
        return None
    return np.stack([model.own_embedding(torch.tensor(run)[None]).numpy() for run in runs])


def own_form(source: Checkpoint) -> tuple[Pooling, bool] | None:
    """Finds the pooling, and whether it normalizes, that makes the graph's own embeddings; None where it gives none.

    Raises CheckpointError where no pooling does.
    """
    runs = sample_runs(source.vocab_size, _LENGTHS, least=2, count=6)
    rows = own_rows(source, runs)
    if rows is None:
        return None
    with torch.no_grad():
        states = [
            source.model(input_ids=torch.tensor(run)[None]).last_hidden_state[0].numpy() for run in runs
        ]
    for normalize in (False, True):
        for pooling in _POOLINGS:
            if _makes(pooling, normalize, states, rows):
                return pooling, normalize
    raise CheckpointError(
        f"{source.path / GRAPH} gives {EMBEDDING} [{rows.shape[2]}], which no pooling makes of its hidden states "
        f"[{source.hidden_size}]: layers behind the pooling are not imported: export the original checkpoint"
    )


def _makes(
    pooling: Pooling, normalize: bool, states: Sequence[NDArray[np.float32]], rows: NDArray[np.float32]
) -> bool:
    width = states[0].shape[1]
    if rows.shape[2] != width:
        return False
    form = Embedding(tokens=1, hidden_size=width, dtype="float32", pooling=pooling, normalize=normalize)
    made = np.stack([EncoderReference(torch.nn.Identity(), form, ()).tokens(state) for state in states])
    return bool(np.abs(made - rows).max() <= _CLOSE * max(1.0, float(np.abs(rows).max())))
