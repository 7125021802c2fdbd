"""Attention of `packed_attention` left whole in the traced graph, for a graph that writes token by token.

A pass that has one token of every text needs a tenth of the nodes that a pass over prompts and items needs.
`graphs.passes.step_attention` makes both of the one operator that is traced here, `step_recurrence` of what recurrent
layers compute of any pass.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rankport.exporters.graphs.passes.step_attention import DOMAIN, OPERATOR
from rankport.exporters.graphs.passes.step_recurrence import CONVOLUTION, LINEAR_ATTENTION
from rankport.exporters.kinds.decoders.items_apart import Mixed
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix
from rankport.exporters.kinds.decoders.shared_prefix import KV, Scoring


class StepPrefix(PackedPrefix):
    """Packed tokens that continue several prefixes; it can only be traced."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> tuple[Tensor, KV]:
        """See `SharedPrefix.attend`."""
        _, heads, tokens, head_dim = query.shape
        kv_heads = key.shape[1]
        prefixes, items, length = self.slots.shape
        by_token = [states.transpose(1, 2) for states in (query, key, value)]
        kv_shape = (prefixes, kv_heads, items * length, head_dim)
        sinks = () if scoring.sinks is None else (scoring.sinks,)
        mixed, new_key, new_value = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{OPERATOR}",
            [
                *by_token,
                *self.past_of(layer, key, value),
                self.slots,
                self.token_slots,
                self.past_lengths,
                *sinks,
            ],
            {
                "heads": heads,
                "kv_heads": kv_heads,
                "head_dim": head_dim,
                "scale": float(scoring.scale),
                "softcap": float(scoring.softcap or 0.0),
                "window": scoring.window or 0,
            },
            dtypes=(torch.float32, torch.float32, torch.float32),
            shapes=((1, tokens, heads, head_dim), kv_shape, kv_shape),
            version=1,
        )
        return mixed, (new_key, new_value)

    def convolved(
        self,
        general: Mixed,
        states: Tensor,
        kernel: tuple[Tensor, Tensor | None],
        activation: str | None,
        past: Tensor,
    ) -> Mixed:
        """See `ItemsApart.convolved`."""
        if activation not in (None, "silu", "swish"):
            return general
        attributes = {"activation": activation or "none"}
        return _either(CONVOLUTION, general, [states, *kernel, past], attributes)

    def attended_linearly(
        self,
        general: Mixed,
        states: tuple[Tensor, Tensor, Tensor],
        gates: tuple[Tensor, Tensor | None],
        past: Tensor,
        *,
        scale: float,
    ) -> Mixed:
        """See `ItemsApart.attended_linearly`."""
        return _either(LINEAR_ATTENTION, general, [*states, *gates, past], {"scale": scale})


def _either(
    operator: str, general: Mixed, given: list[Tensor | None], attributes: Mapping[str, int | float | str]
) -> Mixed:
    mixed, state = general
    tokens, states = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{operator}",
        [mixed, state, *given],
        {**attributes},
        dtypes=(mixed.dtype, state.dtype),
        shapes=(mixed.shape, state.shape),
        version=1,
    )
    return tokens, states
