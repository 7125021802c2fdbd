"""Mixtures of experts as graphs: by ONNX Runtime's operator of chosen experts on a CPU, else all of them.

transformers loops over the experts that were hit, or gathers a copy of the weights of each token's experts: the loop
cannot be traced, the copies take 150 MB a token in a model of 30 billion parameters. Where there is no operator every
expert computes every token, and the router's weights choose. Owns the switch and its way back; the reference in torch
stays transformers' own.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from rankport.exporters.graphs.experts.modules import all_experts, subtracts
from rankport.exporters.graphs.experts.swiglu import SwiGLU, swiglu_of
from rankport.exporters.graphs.passes.expert_layout import EXPERTS
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Target

_NAME, _GATE = "rankport", "rankport_gate"
_NOT_CHOSEN = -1e4  # the logit of an expert that a token does not go to: its weight in a softmax is 0


@contextmanager
def traceable_experts(model: nn.Module, target: Target) -> Iterator[None]:
    """Has the experts of the model, while open, be computed as a graph can. Without experts it does nothing.

    Raises CheckpointError for experts of a form that is not supported.
    """
    experts: list[Any] = [part for _, part in all_experts(model)]
    if not experts:
        yield
        return
    for part in experts:
        if part.has_post_expert_norm:
            raise CheckpointError(
                f"{type(part).__name__} of {type(model).__name__} normalizes what each expert gives: not supported"
            )
    has_operator = target == "onnx-cpu" and not subtracts(model)
    # The operator rounds no inputs.
    gates = [
        (part, swiglu_of(part) if has_operator and getattr(part, "rounding", None) is None else None)
        for part in experts
    ]
    ALL_EXPERTS_FUNCTIONS.register(_NAME, _computed)
    configs = {id(part.config): part.config for part in experts}
    with ExitStack() as stack:
        for config in configs.values():
            stack.enter_context(temporary_attributes(config, {"_experts_implementation": _NAME}))
        for part, gate in gates:
            stack.enter_context(temporary_attributes(part, {_GATE: gate}, new=True))
        yield


def _computed(experts: Any, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Computes sum_k weights[t, k] * expert_{chosen[t, k]}(states[t]).

    states [tokens, hidden], chosen [tokens, k] int64, weights [tokens, k] -> [tokens, hidden].
    """
    places = torch.arange(experts.down_proj.shape[0], device=states.device)
    hits = chosen[:, :, None] == places  # [tokens, k, experts]
    routed = torch.where(hits, weights[:, :, None].to(states.dtype), 0.0).sum(dim=1)  # [tokens, experts]
    hit, gate = hits.any(dim=1), getattr(experts, _GATE)
    if gate is None or not torch.compiler.is_exporting():
        return _all_experts(experts, states, hit, routed)
    # The operator takes the softmax of logits for weights: their logarithms give back the shares of a token's sum.
    logits = torch.where(hit, routed.clamp(min=torch.finfo(routed.dtype).tiny).log(), _NOT_CHOSEN)
    kernel = getattr(experts, "kernel", None) or partial(_chosen_experts, experts)
    mixed: Tensor = kernel(states, logits, _options(gate, chosen.shape[1]))
    return mixed * routed.sum(dim=1, keepdim=True)


def _options(gate: SwiGLU, count: int) -> dict[str, int | float | str]:
    """Gives the attributes of ONNX Runtime's operators for the `count` experts of a token."""
    limit = {} if gate.limit is None else {"swiglu_limit": gate.limit}
    return {
        "k": count,
        "activation_type": "swiglu",
        "activation_alpha": gate.alpha,
        "activation_beta": gate.beta,
        "swiglu_fusion": 1,  # gate and up alternate
        "normalize_routing_weights": 1,
        **limit,
    }


def _chosen_experts(
    experts: Any, states: Tensor, logits: Tensor, options: Mapping[str, int | float | str]
) -> Tensor:
    """Emits the operator over the weights as they are stored, which `expert_layout` lays out for it."""
    biases = (experts.gate_up_proj_bias, experts.down_proj_bias) if experts.has_bias else (None, None)
    return torch.onnx.ops.symbolic(
        EXPERTS,
        [states, logits, experts.gate_up_proj, biases[0], experts.down_proj, biases[1]],
        {
            **options,
            "concatenated": int(experts.is_concatenated),
            "transposed": int(experts.is_transposed),
        },
        dtype=states.dtype,
        shape=states.shape,
        version=1,
    )


def _all_experts(experts: Any, states: Tensor, hit: Tensor, routed: Tensor) -> Tensor:
    """Has every expert compute every token. `hit` [tokens, experts] tells a token's own, `routed` their weights."""
    rounding = getattr(experts, "rounding", None)
    states = states if rounding is None else rounding.states.rounded(states)
    up, down = experts.gate_up_proj if experts.has_gate else experts.up_proj, experts.down_proj
    if not experts.is_transposed:
        up, down = up.transpose(1, 2), down.transpose(1, 2)  # [experts, in, out]
    inner = torch.matmul(states[None], up)  # [experts, tokens, width]
    if experts.has_bias:
        inner = inner + (experts.gate_up_proj_bias if experts.has_gate else experts.up_proj_bias)[:, None]
    inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)
    inner = inner if rounding is None else rounding.inner.rounded(inner)
    # Chosen, not multiplied by 0: an expert that a token does not go to may overflow on it.
    share = routed.T[:, :, None]
    inner = torch.where(hit.T[:, :, None], inner * share, 0.0)
    # One product over experts and their widths together.
    mixed: Tensor = inner.permute(1, 0, 2).flatten(1) @ down.flatten(0, 1)
    return mixed + routed @ experts.down_proj_bias if experts.has_bias else mixed
