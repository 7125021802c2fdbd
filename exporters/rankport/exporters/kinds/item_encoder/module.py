"""An item encoder checkpoint as one function: padded token ids -> embedding tokens. And its `encode` graph."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType

import onnx_ir as ir
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.experts import traceable_experts
from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.item_encoder.attention import fused_attention
from rankport.exporters.kinds.item_encoder.pooling import PooledStates
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import Activation, DenseLayer, Embedding, Precision, Target

DenseWeights = Mapping[str, Tensor]
"""`linear.weight` [out, in], and as far as the layer has them `linear.bias` [out] and `residual.weight`."""

ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = MappingProxyType(
    {
        "identity": nn.Identity,
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "sigmoid": nn.Sigmoid,
    }
)


class EncoderModule(nn.Module):
    """(input_ids [items, tokens], attention_mask [items, tokens], both int64, padded at the end) -> [items, k, hidden].

    The final hidden states are pooled as `pooling.PooledStates` says, poolings joined; then dense layers;
    x / max(|x|, 1e-12) per token if `normalize`; and the first `hidden_size` values.
    """

    def __init__(self, model: nn.Module, embedding: Embedding, dense: Sequence[DenseWeights] = ()) -> None:
        """Takes the model over; `dense` holds the weights of `embedding.dense`, in order."""
        super().__init__()
        self.model = model
        self.pooling = PooledStates(embedding)
        self.dense = nn.Sequential(*map(_Dense, embedding.dense, dense))
        self.tokens = embedding.tokens
        self.hidden_size = embedding.hidden_size
        self.normalize = embedding.normalize
        self.cuts = embedding.cut_from is not None
        self.dtype = torch.float16 if embedding.dtype == "float16" else torch.float32

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encodes padded texts. [items, k, hidden] in the output dtype"""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled: Tensor = self.dense(self.pooling(hidden, attention_mask))
        if self.normalize:
            pooled = nn.functional.normalize(pooled, dim=-1, eps=1e-12)
        if self.cuts:
            pooled = pooled[:, :, : self.hidden_size]
        return pooled.to(self.dtype)


class _Dense(nn.Module):
    """activation(x W + b), and the input beside it where the layer says so."""

    def __init__(self, layer: DenseLayer, weights: DenseWeights) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
        self.activation = ACTIVATIONS[layer.activation]()
        self.adds_input = layer.residual
        self.residual: nn.Module = nn.Identity()
        if layer.residual and layer.in_features != layer.out_features:
            self.residual = nn.Linear(layer.in_features, layer.out_features, bias=False)
        self.load_state_dict(weights)
        self.requires_grad_(False)

    def forward(self, states: Tensor) -> Tensor:
        made: Tensor = self.activation(self.linear(states))
        return made + self.residual(states) if self.adds_input else made


def export_encode_graph(module: EncoderModule, target: Target, precision: Precision = "fp32") -> ir.Model:
    """Makes the `encode` graph."""
    arguments: dict[str, Tensor | list[Tensor]] = {
        "input_ids": torch.ones(3, 7, dtype=torch.int64),
        "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 4 + [0] * 3]),
    }
    axes: dict[str, list[str | int]] = {name: ["items", "item_tokens"] for name in arguments}
    on_gpu = target == "onnx-cuda"
    fused = fused_attention(module.model) if on_gpu else nullcontext()
    with graph_kernels(module.model, target), traceable_experts(module.model), fused:
        traced = trace(module, arguments, axes, ["embeddings"])
    graph = cut(traced, {"embeddings": ["items", module.tokens, module.hidden_size]})
    if on_gpu:
        fuse_for_cuda(graph)
    if precision != "fp32":
        to_half_precision(graph, precision, fused=on_gpu)
    drop_intermediate_shapes(graph)
    return graph
