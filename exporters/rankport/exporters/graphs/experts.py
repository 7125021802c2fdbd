"""Mixtures of experts as graphs: every expert computes every token, and the router's weights choose.

transformers loops over the experts that were hit, or gathers a copy of the weights of each token's experts: the loop
cannot be traced, the copies take 150 MB a token in a model of 30 billion parameters. Owns the switch and its way back;
the reference in torch stays transformers' own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from rankport.protos.errors import CheckpointError

_NAME = "rankport"


@contextmanager
def traceable_experts(model: nn.Module) -> Iterator[None]:
    """Has the experts of the model, while open, be computed as a graph can. Without experts it does nothing.

    Raises CheckpointError for experts of a form that is not supported.
    """
    experts = [part for part in model.modules() if hasattr(part, "has_post_expert_norm")]
    if not experts:
        yield
        return
    for part in experts:
        if part.has_post_expert_norm:
            raise CheckpointError(
                f"{type(part).__name__} of {type(model).__name__} normalizes what each expert gives: not supported"
            )
    ALL_EXPERTS_FUNCTIONS.register(_NAME, _all_experts)
    configs: dict[int, Any] = {id(part.config): part.config for part in experts}
    before = {key: config._experts_implementation for key, config in configs.items()}
    for config in configs.values():
        config._experts_implementation = _NAME
    try:
        yield
    finally:
        for key, config in configs.items():
            config._experts_implementation = before[key]


def _all_experts(experts: Any, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Computes sum_k weights[t, k] * expert_{chosen[t, k]}(states[t]).

    states [tokens, hidden], chosen [tokens, k] int64, weights [tokens, k] -> [tokens, hidden].
    """
    up, down = experts.gate_up_proj if experts.has_gate else experts.up_proj, experts.down_proj
    if not experts.is_transposed:
        up, down = up.transpose(1, 2), down.transpose(1, 2)  # [experts, in, out]
    count = up.shape[0]
    hit = chosen[:, :, None] == torch.arange(count, device=states.device)  # [tokens, k, experts]
    routed = torch.where(hit, weights[:, :, None].to(states.dtype), 0.0).sum(dim=1)  # [tokens, experts]
    inner = torch.matmul(states[None], up)  # [experts, tokens, width]
    if experts.has_bias:
        inner = inner + (experts.gate_up_proj_bias if experts.has_gate else experts.up_proj_bias)[:, None]
    inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)
    # Chosen, not multiplied by 0: an expert that a token does not go to may overflow on it.
    share = routed.T[:, :, None]
    inner = torch.where(hit.any(dim=1).T[:, :, None], inner * share, 0.0)
    # One product over experts and their widths together.
    mixed: Tensor = inner.permute(1, 0, 2).flatten(1) @ down.flatten(0, 1)
    return mixed + routed @ experts.down_proj_bias if experts.has_bias else mixed
