"""Facts of states that a run of a body shows: their width, and whether the first one of a text sees the others."""

import torch
from torch import nn

_ROUNDING = 1e-6
"""Share of a state's largest value by which sums in another order may move it."""


def states_width(model: nn.Module, stated: int) -> int:
    """Runs a body on one token, and gives the width of its last states, which its config need not state.

    EmbeddingGemma 2 projects them to another width than its layers have. The width is the `stated` one of a body that
    does not run on a token alone, which is refused, with the reason, where its graph is made.
    """
    try:
        with torch.no_grad():
            states = model(input_ids=torch.ones(1, 1, dtype=torch.int64)).last_hidden_state
    except Exception:  # the model's code raises whatever it likes
        return stated
    return int(states.shape[-1])


def first_state_sees_all(model: nn.Module) -> bool:
    """Tells whether the state of a text's first token depends on those behind it, by a run on two texts.

    True too of a body that does not run on token ids alone.
    """
    try:
        rows: int = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        # Far apart: the first rows of many vocabularies are of no token, and may be all alike.
        ids = torch.tensor([[1, 2, 3, 4], [1, 4, 2, 2]]) * max(1, rows // 5)
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    except Exception:  # the model's code raises whatever it likes
        return True
    moved = (states[0] - states[1]).abs().max()
    return bool(moved > _ROUNDING * states.abs().max())
