"""Low-bit layers: kernels compute the layers' maths, rounding is no worse than it claims, recipes export and verify."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from rankport.exporters.graphs.trace import trace
from rankport.exporters.quantization.activation import FINE, FP4_MAX, FP8_MAX, Activation, fp8_by_sums
from rankport.exporters.quantization.calibration import calibrate
from rankport.exporters.quantization.kernels.select import graph_kernels, kernel_of
from rankport.exporters.quantization.linear import QuantizedEmbedding, QuantizedLinear, QuantizedTable
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import RECIPES, recipe_of
from rankport.exporters.quantization.rounding import (
    int8_rows,
    round_to_nearest,
    round_with_compensation,
)
from rankport.exporters.quantization.weight import QuantizedWeight
from support.gpu.qdq import fp4_weight

IN, OUT = 256, 96


def random_weight(bits: int, groups: int, *, zeros: bool = False, shuffled: bool = False) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(bits * groups)
    edge = 2 ** (bits - 1)
    codes = torch.randint(-edge, edge, (OUT, IN), generator=generator).to(torch.int8)
    scales = torch.rand(OUT, groups, generator=generator) * 0.02 + 0.001
    offsets = torch.randint(-edge // 2, edge // 2, (OUT, groups), generator=generator).to(torch.int8)
    order = None
    if shuffled:
        order = torch.arange(groups).repeat_interleave(IN // groups)[torch.randperm(IN, generator=generator)]
    return QuantizedWeight(codes, scales, offsets if zeros else None, bits, order)


def fp8_weight() -> QuantizedWeight:
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(8)) * 0.1
    return round_to_nearest(weight, RECIPES["fp8"], None)


UNEQUAL = torch.arange(2).repeat_interleave(torch.tensor([IN - 16, 16]))
LAYERS: dict[str, tuple[QuantizedWeight, Activation | None, str]] = {
    "int4 in groups of 128": (random_weight(4, 2), None, "NBitsKernel"),
    "int4 asymmetric": (random_weight(4, 2, zeros=True), None, "NBitsKernel"),
    "int4 asymmetric, odd groups": (random_weight(4, 1, zeros=True), None, "NBitsKernel"),
    "int4 per channel": (random_weight(4, 1), None, "NBitsKernel"),
    "int4 act-order": (random_weight(4, 4, zeros=True, shuffled=True), None, "NBitsKernel"),
    "int4 in groups of no block size": (random_weight(4, 32), None, "DequantizeKernel"),
    "int4 unequal groups": (
        QuantizedWeight(random_weight(4, 2).codes, random_weight(4, 2).scales, None, 4, UNEQUAL),
        None,
        "DequantizeKernel",
    ),
    "int4, int8 activations": (random_weight(4, 2), Activation("int8-block", block=128), "NBitsKernel"),
    "int8 weights alone": (random_weight(8, 1), None, "DequantizeKernel"),
    "int8 in groups, asymmetric": (random_weight(8, 4, zeros=True), None, "DequantizeKernel"),
    "int8 act-order": (random_weight(8, 4, zeros=True, shuffled=True), None, "DequantizeKernel"),
    "fp4, fp4 per block": (
        fp4_weight(),
        Activation("fp4-block", FP4_MAX, scale=0.002, block=16),
        "DequantizeKernel",
    ),
    "int8, int8 activations in blocks": (
        random_weight(8, 1),
        Activation("int8-block", block=256),
        "NBitsKernel",
    ),
    "int8, int8 per token": (random_weight(8, 1), Activation("int8-token"), "IntegerKernel"),
    "int8, int16 per token": (random_weight(8, 1), Activation("int16-token"), "IntegerKernel"),
    "int8, int8 per token, divisor 127.5": (
        random_weight(8, 1),
        Activation("int8-token", divisor=127.5),
        "IntegerKernel",
    ),
    "int8, int8 per tensor": (random_weight(8, 1), Activation("int8-tensor", scale=0.02), "IntegerKernel"),
    "fp8 weights alone": (fp8_weight(), None, "DequantizeKernel"),
    "fp8, fp8 per token": (fp8_weight(), Activation("fp8-token", divisor=FP8_MAX), "DequantizeKernel"),
    "fp8, fp8 per tensor": (fp8_weight(), Activation("fp8-tensor", scale=0.01), "DequantizeKernel"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_kernel_computes_the_maths_of_its_layer(name: str, tmp_path: Path) -> None:
    weight, activation, kernel = LAYERS[name]
    bias = torch.linspace(-1, 1, OUT)
    layer = QuantizedLinear(weight, bias, activation)
    assert type(kernel_of(layer)).__name__ == kernel
    x = torch.randn(1, 33, IN, generator=torch.Generator().manual_seed(1))
    x[0, 3] = 0  # a token of zeros has no largest value
    with graph_kernels(layer):
        graph = trace(layer, {"x": x}, {"x": [1, "tokens", IN]}, ["y"])
    assert layer.kernel is None
    ir.save(graph, tmp_path / "layer.onnx")
    expected = layer(x).numpy()
    for setting in (
        "session.disable_quant_qdq",
        "session.qdq_matmulnbits_accuracy_level",
    ):  # as backends open them
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry(setting, "1")
        session = onnxruntime.InferenceSession(
            tmp_path / "layer.onnx", options, providers=["CPUExecutionProvider"]
        )
        actual = session.run(None, {"x": x.numpy()})[0]
        assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) <= 1e-5, setting


@pytest.mark.parametrize(
    "name", [name for name, (_, _, kernel) in LAYERS.items() if kernel == "DequantizeKernel"]
)
def test_weights_that_no_product_takes_are_dequantized_once_at_load(name: str, tmp_path: Path) -> None:
    layer = QuantizedLinear(LAYERS[name][0], None, LAYERS[name][1])
    with graph_kernels(layer):
        graph = trace(layer, {"x": torch.zeros(1, 33, IN)}, {"x": [1, "tokens", IN]}, ["y"])
    assert "DequantizeLinear" in {node.op_type for node in all_nodes(graph)}
    ir.save(graph, tmp_path / "layer.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as "throughput" opens it
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(tmp_path / "layer.onnx", options, providers=["CPUExecutionProvider"])
    assert "DequantizeLinear" not in {node.op_type for node in all_nodes(ir.load(tmp_path / "loaded.onnx"))}


def all_nodes(model: ir.Model) -> list[ir.Node]:
    """Lists nodes of a graph and of its functions."""
    functions = [node for function in model.functions.values() for node in function]
    return [*model.graph, *functions]


def test_low_bit_weights_are_stored_in_low_bits() -> None:
    def bytes_of(name: str) -> int:
        buffers = dict(kernel_of(QuantizedLinear(LAYERS[name][0], None, LAYERS[name][1])).named_buffers())
        return sum(buffer.nbytes for buffer in buffers.values())

    assert bytes_of("int4 in groups of 128") <= IN * OUT / 2 * 1.1
    assert bytes_of("int8, int8 per token") <= IN * OUT * 1.1
    assert bytes_of("fp8, fp8 per token") <= IN * OUT * 1.1


def test_sums_round_to_fp8_as_a_cast_does() -> None:
    """Every significand of one binade, which all others equal by a power of two, and those below the normal numbers."""
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).to(torch.float32)
    grid = codes[codes.isfinite()].unique()
    middles = (grid[1:] + grid[:-1]) / 2
    binade = torch.arange(0x3F800000, 0x40000001, dtype=torch.int32).view(torch.float32)
    small = torch.arange(0x3B000000, 0x3C800001, 7, dtype=torch.int32).view(
        torch.float32
    )  # 2 ** -9 to 2 ** -6
    for values in (
        grid,
        middles,
        middles.nextafter(grid[1:]),
        middles.nextafter(grid[:-1]),
        binade,
        small,
        small / 4,
    ):
        expected = values.to(torch.float8_e4m3fn).to(torch.float32)
        assert torch.equal(fp8_by_sums(values), expected)
        assert torch.equal(fp8_by_sums(-values), -expected)


def test_the_rounding_of_a_token_does_not_depend_on_its_neighbours() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    for activation in (
        Activation("int8-token"),
        Activation("int8-block", block=32),
        Activation("fp8-token", 448.0),
    ):
        together = activation.rounded(x)
        assert torch.equal(together[2], activation.rounded(x[2:3] * 1.0)[0])
        louder = x.clone()
        louder[0] *= 100
        assert torch.equal(together[2], activation.rounded(louder)[2])


@pytest.mark.parametrize("recipe", RECIPES)
def test_compensated_rounding_beats_the_nearest_code_on_what_it_was_calibrated_on(recipe: str) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(48, 128, generator=generator) * 0.05
    mixing = torch.randn(16, 128, generator=generator)  # strongly correlated inputs
    x = torch.randn(512, 16, generator=generator) @ mixing + 0.05 * torch.randn(512, 128, generator=generator)
    chosen = RECIPES[recipe]
    nearest = round_to_nearest(weight, chosen, chosen.group_size)
    compensated = round_with_compensation(weight, x.T @ x, chosen, chosen.group_size)

    def error(rounded: QuantizedWeight) -> float:
        return float((x @ (rounded.dequantized() - weight).T).norm())

    assert error(compensated) < 0.7 * error(nearest)


def test_a_channel_that_calibration_never_saw_keeps_its_weights() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(4))
    hessian = torch.eye(64)
    hessian[5, 5] = 0
    rounded = round_with_compensation(weight, hessian, RECIPES["int8"], None).dequantized()
    assert (rounded[:, 5] - weight[:, 5]).abs().max() < 0.05


def test_a_row_of_zeros_stays_zero() -> None:
    weight = torch.zeros(4, 128)
    for recipe in RECIPES.values():
        assert torch.equal(round_to_nearest(weight, recipe, recipe.group_size).dequantized(), weight)
    codes, scales = int8_rows(weight)
    assert torch.equal(QuantizedEmbedding(codes, scales)(torch.tensor([1, 3])), torch.zeros(2, 128))


def test_int8_rows_are_within_half_a_step() -> None:
    table = torch.randn(50, 32, generator=torch.Generator().manual_seed(5))
    rows = QuantizedEmbedding(*int8_rows(table))(torch.arange(50))
    step = table.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((rows - table).abs() <= step / 2 + 1e-7).all())


@pytest.mark.parametrize("groups", [1, 4])
def test_a_head_that_is_the_table_is_read_row_by_row_from_the_same_codes(groups: int) -> None:
    weight = random_weight(8, groups)
    table, ids = QuantizedTable(weight), torch.tensor([[3, 1], [95, 3]])
    kernel = kernel_of(table)
    assert kernel is not None
    right = weight.dequantized()[ids]
    assert torch.equal(table(ids), right)
    assert torch.allclose(kernel(ids), right, atol=1e-6)
    product = kernel_of(QuantizedLinear(weight, None, Activation("int8-block", block=IN // groups)))
    assert product is not None
    assert torch.equal(product.packed, kernel.packed)


def test_two_bytes_round_what_a_loud_channel_drowns_in_one() -> None:
    x = torch.randn(64, IN, generator=torch.Generator().manual_seed(9))
    x[:, 7] = 30
    coarse = (Activation("int8-token").rounded(x) - x).abs().max()
    fine = (Activation("int16-token").rounded(x) - x).abs().max()
    assert float(coarse) == pytest.approx(30 / 127 / 2, rel=0.02)
    assert float(fine) == pytest.approx(30 / 127 / 2 / FINE, rel=0.02)


def test_inputs_are_rounded_where_the_target_multiplies_what_they_become() -> None:
    rounds = {
        (name, target): recipe_of(name, target).rounds_inputs
        for name in RECIPES
        for target in ("onnx-cpu", "onnx-cuda")
    }
    assert [key for key, own in rounds.items() if not own] == [
        ("int8-fine", "onnx-cuda"),
        ("int4", "onnx-cuda"),
    ]


def test_fine_int8_keeps_what_reads_one_state_a_text() -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    kept, schemes = [], []
    for name in ("int8-fine", "int8"):
        model = BertForSequenceClassification(config).eval()
        facts = quantize(model, recipe_of(name, "onnx-cpu"), None)
        kept.append({name for name, layer in model.named_modules() if type(layer) is nn.Linear})
        schemes.append((facts.schemes[0].activations, facts.schemes[0].layers))
    assert schemes == [("int16 per token", 6), ("int8 per token", 7)]
    assert kept == [{"bert.pooler.dense", "classifier"}, {"classifier"}]  # of two labels


def test_a_group_that_does_not_divide_the_inputs_is_halved() -> None:
    recipe = RECIPES["int4"]
    groups = [recipe.group_of(nn.Linear(width, 1)) for width in (256, 192, 96, 48, 30)]
    assert groups == [128, 64, 32, 16, 0]


def test_layers_of_one_input_share_their_calibration() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            x = input_ids.to(torch.float32)
            return self.third(self.first(x) + self.second(x))

    model = Pair()
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(6))
    seen = calibrate(model, lambda: (model(input_ids=x), model(input_ids=x), None)[-1])
    flat = x.reshape(-1, 4)
    assert seen.hessians["first"] is seen.hessians["second"]
    assert seen.hessians["third"] is not seen.hessians["first"]
    assert torch.allclose(seen.hessians["first"], 2 * flat.T @ flat, rtol=1e-5)
    assert seen.tokens == 2 * 10


def write_requests(file: Path, count: int = 6) -> Path:
    rng = np.random.default_rng(0)
    lines = [
        json.dumps(
            {
                "prefix": rng.integers(3, 100, 9).tolist(),
                "items": [rng.integers(3, 100, 5).tolist() for _ in range(4)],
                "gains": [3, 2, 1, 0],
            }
        )
        for _ in range(count)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file
