"""Width of the states that a body answers, read off a run."""

import torch
from torch import nn


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
