"""Functions by which transformers' models mix tokens without attention, and what runs in their place.

Owns the switch and its way back, and how each function is told: the gated delta rule (arXiv 2412.06464, equation 10)
and Mamba 2's scan (arXiv 2405.21060) as one linear attention, and the causal convolution. The layers around them stay
the model's own code.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.runtime.bundle.manifest import Target

States = tuple[Tensor, Tensor, Tensor]  # query, key, value


class Attend(Protocol):
    """Linear attention over states [rows, tokens, heads, width]."""

    def __call__(self, states: States, decay: Tensor, beta: Tensor | None, *, scale: float) -> Tensor:
        """Gives [rows, tokens, heads, value width]; decay (a logarithm) and beta [rows, tokens, heads]."""


Convolve = Callable[[Tensor, Tensor, Tensor | None, str | None], Tensor]
"""Causal convolution: of states [rows, channels, tokens] with weight [channels, kernel] and bias, by an activation."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """Way to compute them; a convolution that is None stays transformers' own."""

    attend: Attend
    convolve: Convolve | None = None

    def gated_delta(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        *,
        use_qk_l2norm_in_kernel: bool = False,
        **kwargs: object,
    ) -> tuple[Tensor, None]:
        """Stands for `torch_chunk_gated_delta_rule`."""
        copies = value.shape[2] // key.shape[2]
        if use_qk_l2norm_in_kernel:
            query, key = _unit(query), _unit(key)
        query, key = _repeated(query, copies), _repeated(key, copies)
        return self.attend((query, key, value), g, beta, scale=query.shape[-1] ** -0.5), None

    def mamba2(
        self,
        hidden_states: Tensor,
        dt: Tensor,
        A: Tensor,  # noqa: N803  # the names by which transformers calls it
        B: Tensor,  # noqa: N803
        C: Tensor,  # noqa: N803
        chunk_size: int,
        D: Tensor | None = None,  # noqa: N803
        dt_bias: Tensor | None = None,
        dt_softplus: bool = False,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        **kwargs: object,
    ) -> Tensor:
        """Stands for `mamba2_chunk_scan`."""
        steps = dt if dt_bias is None else dt + dt_bias
        steps = torch.nn.functional.softplus(steps) if dt_softplus else steps
        steps = steps.clamp(min=dt_limit[0], max=dt_limit[1])
        copies = hidden_states.shape[2] // B.shape[2]
        query, key = _repeated(C, copies), _repeated(B, copies)
        mixed = self.attend((query, key, hidden_states * steps[..., None]), A * steps, None, scale=1.0)
        return mixed if D is None else mixed + D[:, None] * hidden_states

    def convolution(
        self,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Stands for `causal_conv1d_fn`."""
        assert self.convolve is not None
        return self.convolve(hidden_states, weight, bias, activation)


_ATTENDING: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"torch_chunk_gated_delta_rule": Mixing.gated_delta, "mamba2_chunk_scan": Mixing.mamba2}
)
"""By the name under which modules of transformers have them."""
_CONVOLVING: Mapping[str, Callable[..., Any]] = MappingProxyType({"causal_conv1d_fn": Mixing.convolution})


@contextmanager
def mixing_by(model: nn.Module, mixing: Mixing) -> Iterator[None]:
    """Has the model, while open, mix tokens so, and keep no cache. Where it has attention alone it does nothing."""
    stand_ins = _ATTENDING if mixing.convolve is None else {**_ATTENDING, **_CONVOLVING}
    modules = {sys.modules[type(part).__module__] for part in model.modules()}
    replaced = {
        module: {
            name: partial(stand_in, mixing) for name, stand_in in stand_ins.items() if name in vars(module)
        }
        for module in modules
    }
    with ExitStack() as stack:
        for module, functions in replaced.items():
            stack.enter_context(temporary_attributes(module, functions))
        if any(replaced.values()):
            configs = [part.config for part in model.modules() if hasattr(part, "config")]
            # Of a model that sees too some have none.
            configs = [config for config in configs if hasattr(config, "use_cache")]
            for config in {id(config): config for config in configs}.values():
                stack.enter_context(temporary_attributes(config, {"use_cache": False}))
        yield


def linear_attention(
    states: States, decay: Tensor, beta: Tensor | None, *, scale: float, past: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Computes ONNX Runtime's LinearAttention, by that operator where a graph is traced.

    states [rows, tokens, heads, width]; decay (a logarithm) and beta [rows, tokens, heads]; None: no delta rule; past
    [rows, heads, key width, value width], None: zeros.
    Gives [rows, tokens, heads, value width], and [rows, heads, key width, value width] after the last token.
    """
    query, key, value = states
    rows, tokens, heads, key_width = key.shape
    shape = (rows, heads, key_width, value.shape[3])
    if torch.compiler.is_exporting():
        mixed, state = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::LinearAttention",
            [query.flatten(2), key.flatten(2), value.flatten(2), past, decay, beta],
            {
                "q_num_heads": heads,
                "kv_num_heads": heads,
                "scale": scale,
                "update_rule": "gated" if beta is None else "gated_delta",
            },
            dtypes=(value.dtype, value.dtype),
            shapes=((rows, tokens, heads * shape[3]), shape),
            version=1,
        )
        return mixed.reshape(value.shape), state
    state, mixed_tokens = value.new_zeros(shape) if past is None else past, []
    for token in range(tokens):
        asked, at, new = query[:, token], key[:, token], value[:, token]
        state = state * decay[:, token, :, None, None].exp()
        if beta is not None:
            new = (new - torch.einsum("rhkv,rhk->rhv", state, at)) * beta[:, token, :, None]
        state = state + at[..., None] * new[:, :, None]
        mixed_tokens.append(torch.einsum("rhkv,rhk->rhv", state, asked) * scale)
    return torch.stack(mixed_tokens, 1), state


def convolved_by_terms(
    past: Tensor | None, rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> Tensor:
    """Convolves rows [rows, tokens, channels] that go on from their past [rows, kernel - 1, channels], term by term.

    weight [channels, kernel], bias [channels]; a past that is None is of zeros.
    """
    if past is None:
        past = rows.new_zeros(rows.shape[0], weight.shape[1] - 1, rows.shape[2])
    sequence, length = torch.cat([past, rows], 1), rows.shape[1]
    terms = [sequence[:, tap : tap + length] * weight[:, tap] for tap in range(weight.shape[1])]
    mixed = sum(terms[1:], terms[0])
    if bias is not None:
        mixed = mixed + bias
    return mixed if activation is None else ACT2FN[activation](mixed)


def convolved(
    past: Tensor | None, rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> Tensor:
    """Does as `convolved_by_terms`, by ONNX Runtime's CausalConvWithState where a graph is traced."""
    if not torch.compiler.is_exporting():
        return convolved_by_terms(past, rows, weight, bias, activation)
    within = activation in _FUSED_ACTIVATIONS
    mixed, _ = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::CausalConvWithState",
        [rows, weight[:, None], bias, past],
        {"activation": "silu" if within else "none", "channels_last": 1},
        dtypes=(rows.dtype, rows.dtype),
        shapes=(rows.shape, (rows.shape[0], weight.shape[1] - 1, rows.shape[2])),
        version=1,
    )
    return mixed if within or activation is None else ACT2FN[activation](mixed)


_FUSED_ACTIVATIONS = ("silu", "swish")


def _from_zeros(states: States, decay: Tensor, beta: Tensor | None, *, scale: float) -> Tensor:
    return linear_attention(states, decay, beta, scale=scale)[0]


def _convolved_from_zeros(
    states: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> Tensor:
    return convolved(None, states.transpose(1, 2), weight, bias, activation).transpose(1, 2)


BY_OPERATOR: Mapping[Target, Mixing] = MappingProxyType(
    {"onnx-cpu": Mixing(_from_zeros), "onnx-cuda": Mixing(_from_zeros, _convolved_from_zeros)}
)
"""One operator for what a trace would make a step a token of; texts begin anew, and padding comes behind them.

On CUDA the convolution too: cuDNN's has no bfloat16 there, and asks for other kernels by length.
"""


def _unit(states: Tensor) -> Tensor:
    return states * torch.rsqrt((states * states).sum(-1, keepdim=True) + 1e-6)


def _repeated(states: Tensor, copies: int) -> Tensor:
    """Repeats each head: [rows, tokens, heads * copies, width]."""
    rows, tokens, heads, width = states.shape
    if copies == 1:
        return states
    return states[:, :, :, None].expand(rows, tokens, heads, copies, width).reshape(rows, tokens, -1, width)
