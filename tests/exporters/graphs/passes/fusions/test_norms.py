"""RMS normalizations become one operator each, however a model writes them, and give what they gave."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.passes.fusions.norms import fuse_norms
from rankport.exporters.graphs.trace import trace

NAMES = ("residual", "sum", "power", "heads", "scaled", "twice")


class Norms(nn.Module):
    """Norms with a weight of a residual sum, by a power (Gemma 4), of heads of a sum, times one number, of norms."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2.0, 8))
        self.number = nn.Parameter(torch.tensor([1.5]))

    def forward(self, left: Tensor, right: Tensor) -> list[Tensor]:
        left, right = left * 3.0, right.sin()
        states = left + right
        by_head = left.reshape(1, -1, 2, 4) + right.reshape(1, -1, 2, 4)
        mean = right.pow(2).mean(-1, keepdim=True) + 1e-6
        return [
            _normed(states) * self.weight,
            states,
            right * mean.pow(-0.5),
            _normed(by_head),
            _normed(left) * self.number,
            _normed(_normed(right.cos())),
        ]


def _normed(states: Tensor) -> Tensor:
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6)


def test_every_form_is_one_operator_that_gives_the_same() -> None:
    module = Norms().eval()
    states: list[str | int] = [1, "tokens", 8]
    inputs = {"left": torch.randn(1, 5, 8), "right": torch.randn(1, 5, 8)}
    model = trace(module, inputs, {"left": states, "right": states}, NAMES)
    assert fuse_norms(model) == 6
    model.opset_imports["com.microsoft"] = 1
    kinds = Counter(node.op_type for node in model.graph)
    assert (kinds["SkipSimplifiedLayerNormalization"], kinds["SimplifiedLayerNormalization"]) == (1, 5)
    assert not kinds["Pow"]
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with torch.no_grad():
        expected = [part.numpy() for part in module(**inputs)]
    fed = {name: value.numpy() for name, value in inputs.items()}
    for name, given, wanted in zip(NAMES, session.run(NAMES, fed), expected, strict=True):
        np.testing.assert_allclose(given, wanted, rtol=2e-6, atol=1e-6, err_msg=name)
