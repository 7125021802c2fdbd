"""A linear layer of low-bit weights: its maths in torch, and its place for a kernel of the exported graph."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.loud import LoudColumns, with_loud
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.exporters.temporary_attributes import temporary_attributes


class QuantizedLinear(nn.Module):
    """y = round(x) W^T + bias, where W is low-bit and `activation` says how x is rounded (None: not at all).

    Run in torch, it dequantizes its weight for the moment of the product: the reference of the low-bit maths. States of
    half precision are rounded and multiplied in fp32. Loud columns are multiplied as they are, and have no part in a
    token's scale. While a graph is traced, `kernel` computes the product instead (see `kernels`).
    """

    weight: None = None  # no tensor, to whose type T5's layers would cast their states

    def __init__(
        self,
        weight: QuantizedWeight,
        bias: Tensor | None,
        activation: Activation | None,
        loud: LoudColumns | None = None,
    ) -> None:
        super().__init__()
        self.quantized = weight
        self.loud = loud
        self.activation = activation
        self.bias = None if bias is None else nn.Parameter(bias.to(torch.float32), requires_grad=False)
        self.in_features, self.out_features = weight.in_features, weight.out_features
        self.kernel: nn.Module | None = None
        self.multiplies_fp8 = (
            False  # on a GPU, where both sides are: see `kernels.select.choose_fp8_products`
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] -> [..., out], of the states' type."""
        if self.kernel is None:
            states = x.to(torch.float32)
            quiet = states if self.loud is None else states * self.loud.quiet(self.in_features)
            rounded = quiet if self.activation is None else self.activation.rounded(quiet)
            bias = None if self.bias is None else self.bias.to(torch.float32)
            result = nn.functional.linear(rounded, self.quantized.dequantized(), bias)
            return (result if self.loud is None else result + self.loud.product(states)).to(x.dtype)
        product: Tensor = self.kernel(x)
        return product if self.bias is None else product + self.bias

    @property
    def inputs(self) -> str:
        """Words for how inputs are rounded."""
        words = "none" if self.activation is None else self.activation.name
        return words if self.loud is None else with_loud(words, len(self.loud.places))

    def extra_repr(self) -> str:
        """Tells shape and scheme, for people."""
        weight = self.quantized
        return f"{self.in_features} -> {self.out_features}, {weight.type}{weight.bits}, groups of {weight.group_size}"


@contextmanager
def unrounded_inputs(model: nn.Module) -> Iterator[None]:
    """Has the low-bit layers of a model, while open, multiply their inputs as they are.

    A number at the edge of two codes is rounded to either by what no mathematics moves, the last bit of a sum.
    """
    with ExitStack() as stack:
        for part in model.modules():
            if isinstance(part, QuantizedLinear):
                stack.enter_context(temporary_attributes(part, {"activation": None}))
            elif hasattr(part, "rounding"):  # of experts
                stack.enter_context(temporary_attributes(part, {"rounding": None}))
        yield


class QuantizedEmbedding(nn.Module):
    """A table of int8 rows with a scale each, and its loud columns beside them: ids [...] int64 -> fp32 [..., dim]."""

    codes: Tensor  # [rows, dim] int8, zero in loud columns
    scales: Tensor  # [rows] fp32
    loud: Tensor  # [rows, columns] fp32
    places: Tensor  # [columns, dim] fp32: 1 where a loud column belongs

    def __init__(self, codes: Tensor, scales: Tensor, loud: LoudColumns | None = None) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.num_embeddings, self.embedding_dim = codes.shape
        self.has_loud = loud is not None
        if loud is not None:
            places = nn.functional.one_hot(loud.places, self.embedding_dim).to(torch.float32)
            self.register_buffer("loud", loud.weight, persistent=False)
            self.register_buffer("places", places, persistent=False)
        self.kernel: nn.Module | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """Gives the rows of `ids`."""
        rows = self._quiet(ids) if self.kernel is None else self.kernel(ids)
        return rows + nn.functional.embedding(ids, self.loud) @ self.places if self.has_loud else rows

    @property
    def weight(self) -> Tensor:
        """Codes, by which Llama 4 knows the table's device."""
        return self.codes

    def _quiet(self, ids: Tensor) -> Tensor:
        # Traced as Gather: ONNX Runtime on CUDA has no GatherND of int8, which indexing by brackets becomes.
        codes = nn.functional.embedding(ids, self.codes)
        scales: Tensor = nn.functional.embedding(ids, self.scales[:, None])
        return codes.to(torch.float32) * scales


class QuantizedTable(nn.Module):
    """The rows of a low-bit matrix as a table of embeddings: ids [...] int64 -> fp32 [..., dim]."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.quantized = weight
        self.num_embeddings, self.embedding_dim = weight.out_features, weight.in_features
        self.kernel: nn.Module | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """Gives the rows of `ids`."""
        if self.kernel is not None:
            rows: Tensor = self.kernel(ids)
            return rows
        return self.quantized.rows(ids.flatten()).dequantized().reshape(*ids.shape, -1)

    @property
    def weight(self) -> Tensor:
        """Codes, as of `QuantizedEmbedding`."""
        return self.quantized.codes


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the submodule called `name`."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
