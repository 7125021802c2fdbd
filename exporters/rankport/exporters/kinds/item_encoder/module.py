"""An item encoder checkpoint as one function: padded token ids -> embedding tokens. And its `encode` graph."""

from contextlib import nullcontext

import onnx_ir as ir
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.fusions.for_cuda import fuse_for_cuda
from rankport.exporters.graphs.passes.half_precision import to_half_precision
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.item_encoder.attention import fused_attention
from rankport.exporters.quantization.kernels.select import graph_kernels
from rankport.runtime.bundle.manifest import Embedding, Precision, Target


class EncoderModule(nn.Module):
    """(input_ids [items, tokens], attention_mask [items, tokens], both int64, padded at the end) -> [items, k, hidden].

    Pooling of the final hidden states h over an item's n real tokens:
        last-k  h[n - k], ..., h[n - 1]; an item shorter than k repeats h[0] at the front
        cls     h[0]
        mean    sum(h) / n
    then x / max(|x|, 1e-12) per token if `normalize`.
    """

    def __init__(self, model: nn.Module, embedding: Embedding) -> None:
        super().__init__()
        self.model = model
        self.pooling = embedding.pooling
        self.tokens = embedding.tokens
        self.normalize = embedding.normalize
        self.dtype = torch.float16 if embedding.dtype == "float16" else torch.float32

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encodes padded texts. [items, k, hidden] in the output dtype"""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = self._pool(hidden, attention_mask)
        if self.normalize:
            pooled = nn.functional.normalize(pooled, dim=-1, eps=1e-12)
        return pooled.to(self.dtype)

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return hidden[:, :1]
        if self.pooling == "mean":
            weights = mask.to(hidden.dtype)[:, None, :]
            return (weights @ hidden) / weights.sum(dim=-1, keepdim=True)
        lengths = mask.sum(dim=1, keepdim=True)
        index = (lengths - self.tokens + torch.arange(self.tokens)).clamp(min=0)
        return torch.gather(hidden, 1, index[:, :, None].expand(-1, -1, hidden.shape[-1]))


def export_encode_graph(
    module: EncoderModule, hidden_size: int, target: Target, precision: Precision = "fp32"
) -> ir.Model:
    """Makes the `encode` graph."""
    arguments: dict[str, Tensor | list[Tensor]] = {
        "input_ids": torch.ones(3, 7, dtype=torch.int64),
        "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 4 + [0] * 3]),
    }
    axes: dict[str, list[str | int]] = {name: ["items", "item_tokens"] for name in arguments}
    on_gpu = target == "onnx-cuda"
    with graph_kernels(module.model, target), fused_attention(module.model) if on_gpu else nullcontext():
        traced = trace(module, arguments, axes, ["embeddings"])
    graph = cut(traced, {"embeddings": ["items", module.tokens, hidden_size]})
    if on_gpu:
        fuse_for_cuda(graph)
    if precision != "fp32":
        to_half_precision(graph, precision, fused=on_gpu)
    drop_intermediate_shapes(graph)
    return graph
