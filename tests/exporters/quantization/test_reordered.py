"""Layers whose outputs or inputs stand in another order give the same numbers, or there are none."""

import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.loud import LoudColumns
from rankport.exporters.quantization.reordered import with_inputs, with_outputs
from rankport.exporters.quantization.weight import QuantizedWeight, whole_blocks

IN, OUT = 8, 6
OUTPUTS = torch.tensor([3, 0, 5, 1, 4, 2])
INPUTS = torch.tensor([4, 5, 0, 1, 6, 7, 2, 3])  # pairs stay beside each other
INT8 = Activation("int8-token")


def _quantized(
    groups: int, activation: Activation | None = None, *, loud: bool = False, scattered: bool = False
) -> QuantizedLinear:
    random = torch.Generator().manual_seed(groups)
    codes = torch.randint(-8, 8, (OUT, IN), generator=random).to(torch.int8)
    scales = torch.rand(OUT, groups, generator=random) + 0.1
    zeros = torch.randint(-2, 3, (OUT, groups), generator=random).to(torch.int8) if groups > 1 else None
    groups_of = torch.arange(IN) % groups if scattered else None
    columns = None
    if loud:
        columns = LoudColumns(torch.tensor([1, 6]), torch.rand(OUT, 2, generator=random))
        codes[:, columns.places] = 0
    weight = QuantizedWeight(codes, scales, zeros, 4, groups_of)
    return QuantizedLinear(weight, torch.rand(OUT, generator=random), activation, columns)


def _fp8() -> QuantizedLinear:
    codes = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn)
    layer = QuantizedLinear(QuantizedWeight(codes, torch.full((OUT, 1), 0.5), None, 8), None, None)
    layer.multiplies_fp8 = True
    return layer


LAYERS: dict[str, nn.Module] = {
    "full precision": nn.Linear(IN, OUT),
    "without a bias": nn.Linear(IN, OUT, bias=False),
    "a scale a channel": _quantized(1),
    "a scale a pair": _quantized(4),
    "groups that are scattered": _quantized(4, scattered=True),
    "inputs rounded by token": _quantized(1, INT8),
    "inputs rounded by pairs": _quantized(1, Activation("int8-block", block=2)),
    "fp8": _fp8(),
    "loud columns": _quantized(1, INT8, loud=True),
}


@pytest.fixture
def states() -> Tensor:
    return torch.randn(5, IN, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_stand_in_the_order_asked_for(name: str, states: Tensor) -> None:
    layer = LAYERS[name]
    moved = with_outputs(layer, OUTPUTS)
    assert moved is not None
    torch.testing.assert_close(moved(states), layer(states)[:, OUTPUTS])


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_are_taken_in_the_order_asked_for(name: str, states: Tensor) -> None:
    layer = LAYERS[name]
    moved = with_inputs(layer, INPUTS)
    assert moved is not None
    torch.testing.assert_close(moved(states[:, INPUTS]), layer(states))


def test_a_layer_that_multiplies_fp8_by_fp8_still_does() -> None:
    for moved in (with_outputs(_fp8(), OUTPUTS), with_inputs(_fp8(), INPUTS)):
        assert isinstance(moved, QuantizedLinear)
        assert moved.multiplies_fp8


def test_the_layer_itself_stays_as_it_is(states: Tensor) -> None:
    layer = nn.Linear(IN, OUT)
    before = layer(states)
    with_outputs(layer, OUTPUTS)
    with_inputs(layer, INPUTS)
    assert torch.equal(layer(states), before)


@pytest.mark.parametrize(
    "layer",
    [_quantized(2), _quantized(1, Activation("int8-block", block=4)), nn.Bilinear(IN, IN, OUT)],
    ids=["scales of four", "inputs rounded by four", "another class"],
)
def test_what_shares_a_scale_is_not_parted(layer: nn.Module) -> None:
    assert with_inputs(layer, INPUTS) is None


def test_groups_become_shorter_where_an_order_parts_them() -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(-8, 8, (3, 64), generator=random).to(torch.int8)
    zeros = torch.randint(-2, 3, (3, 2), generator=random).to(torch.int8)
    layer = QuantizedLinear(QuantizedWeight(codes, torch.rand(3, 2, generator=random), zeros, 4), None, None)
    order = torch.arange(64).reshape(2, 2, 16).transpose(0, 1).flatten()
    moved = with_inputs(layer, order)
    assert isinstance(moved, QuantizedLinear)
    assert moved.quantized.group_size == 16
    states = torch.randn(5, 64, generator=random)
    torch.testing.assert_close(moved(states[:, order]), layer(states))


def test_another_class_has_no_outputs_to_move() -> None:
    assert with_outputs(nn.Bilinear(IN, IN, OUT), OUTPUTS) is None


def test_an_order_of_blocks_is_read_where_it_is_one() -> None:
    blocks = whole_blocks(INPUTS, 2)
    assert blocks is not None
    assert blocks.tolist() == [2, 0, 3, 1]
    assert whole_blocks(INPUTS, 4) is None
    assert whole_blocks(INPUTS, 3) is None
    assert whole_blocks(torch.tensor([1, 2, 0, 3]), 2) is None
