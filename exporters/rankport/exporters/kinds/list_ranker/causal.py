"""A check that a body reads from left to right: then nothing that stands behind a marker, padding say, changes it."""

import torch

from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.quantization.linear import unrounded_inputs
from rankport.protos.errors import CheckpointError

_TOKENS = 6
_MOST = 1e-5
"""Largest change of a state, as a share of the largest: what the order of sums may move."""
_FAR = 100


def require_causal(model: ListRankerModel) -> None:
    """Raises CheckpointError for a body whose states depend on what follows them."""
    table = model.get_input_embeddings()
    ids = torch.zeros(2, _TOKENS, dtype=torch.int64)
    with torch.no_grad(), unrounded_inputs(model):
        inputs = table(ids)
        inputs[1, -1] += _FAR * (inputs.abs().max() + 1) * torch.linspace(-1, 1, inputs.shape[2])
        states = model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    moved = (states[0, :-1] - states[1, :-1]).abs().max()
    if not moved <= _MOST * states.abs().max():
        raise CheckpointError(
            f"{type(model.model).__name__} reads both ways, what follows a marker too: the body of a list ranker is a "
            "decoder"
        )
