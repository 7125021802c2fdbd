"""Dense layers of sentence-transformers as modules of torch."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from rankport.exporters.checkpoints.sentence_transformers.dense import DenseWeights
from rankport.runtime.bundle.manifest import Activation, DenseLayer

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


def dense_stack(layers: Sequence[DenseLayer], weights: Sequence[DenseWeights]) -> nn.Sequential:
    """Makes Dense layers one behind the other. [..., in] -> [..., out]"""
    return nn.Sequential(*map(DenseModule, layers, weights))


class DenseModule(nn.Module):
    """activation(x W + b), and the input beside it where the layer says so."""

    def __init__(self, layer: DenseLayer, weights: DenseWeights) -> None:
        """Takes the weights over."""
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
        """Computes [..., out] of [..., in]."""
        made: Tensor = self.activation(self.linear(states))
        return made + self.residual(states) if self.adds_input else made
