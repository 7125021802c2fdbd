"""`write_graphs`: one weights file, every distinct tensor in it once, each at a page."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from rankport.exporters.graphs.weights import INLINE_BYTES, PAGE_BYTES, write_graphs

WEIGHTS = "weights.bin"
RANDOM = np.random.default_rng(0)
SQUARE = RANDOM.normal(size=(24, 24)).astype(np.float32)
OTHER = RANDOM.normal(size=(24, 24)).astype(np.float32)
FLOAT = ir.DataType.FLOAT


def graph(**constants: np.ndarray) -> ir.Model:
    """Gives each constant as `<name>.out`, and `y` = -x."""
    x = ir.val("x", FLOAT, ["n"])
    values = [ir.val(name, const_value=ir.tensor(data.copy())) for name, data in constants.items()]
    nodes = [ir.node("Identity", [value]) for value in values]
    nodes.append(ir.node("Neg", [x]))
    outputs = [node.outputs[0] for node in nodes]
    for output, value in zip(outputs, [*values, x], strict=True):
        output.name, output.type = f"{value.name}.out", value.type
    outputs[-1].name = "y"
    made = ir.Graph([x], outputs, nodes=nodes, initializers=values, opset_imports={"": 20})
    return ir.Model(made, ir_version=10)


def stored(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length in the weights file of each tensor that a saved graph keeps there."""
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            assert place["location"] == WEIGHTS
            found[tensor.name] = (int(place["offset"]), int(place["length"]))
    return found


def run(path: Path) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {"x": np.array([1, -2], np.float32)})
    return {name: np.asarray(output) for name, output in zip(names, outputs, strict=True)}


def test_equal_tensors_of_two_graphs_and_of_two_names_are_stored_once(tmp_path: Path) -> None:
    prefix, score = graph(a=SQUARE, other=OTHER), graph(b=SQUARE, c=SQUARE)
    write_graphs(tmp_path, {"prefix": prefix, "score": score}, WEIGHTS)
    in_prefix, in_score = stored(tmp_path / "prefix.onnx"), stored(tmp_path / "score.onnx")
    assert in_prefix["a"] == in_score["b"] == in_score["c"] != in_prefix["other"]
    assert (
        tmp_path / WEIGHTS
    ).stat().st_size == PAGE_BYTES + SQUARE.nbytes  # two tensors of less than a page


def test_each_tensor_starts_at_a_page(tmp_path: Path) -> None:
    sizes = [INLINE_BYTES // 4 + 1, 1023, 1024, 1025, 3000]
    model = graph(**{f"t{size}": np.full(size, size, np.float32) for size in sizes})
    write_graphs(tmp_path, {"encode": model}, WEIGHTS)
    places = stored(tmp_path / "encode.onnx")
    assert [places[f"t{size}"][1] for size in sizes] == [4 * size for size in sizes]
    assert all(offset % PAGE_BYTES == 0 for offset, _ in places.values())
    ends = sorted(places.values())
    assert all(offset + length <= after for (offset, length), (after, _) in itertools.pairwise(ends))
    content = (tmp_path / WEIGHTS).read_bytes()
    for size in sizes:
        offset, length = places[f"t{size}"]
        assert content[offset : offset + length] == np.full(size, size, np.float32).tobytes()


def test_small_tensors_stay_inside_the_graph(tmp_path: Path) -> None:
    model = graph(small=np.ones(INLINE_BYTES, np.int8), large=np.ones(INLINE_BYTES + 1, np.int8))
    write_graphs(tmp_path, {"encode": model}, WEIGHTS)
    assert set(stored(tmp_path / "encode.onnx")) == {"large"}


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.float32])
def test_dtypes_shapes_and_values_survive(dtype: type[np.generic], tmp_path: Path) -> None:
    large, small = (100 * OTHER).astype(dtype), np.arange(6).reshape(2, 3).astype(dtype)
    write_graphs(tmp_path, {"encode": graph(large=large, small=small)}, WEIGHTS)
    assert set(stored(tmp_path / "encode.onnx")) == {"large"}
    outputs = run(tmp_path / "encode.onnx")
    for name, expected in (("large.out", large), ("small.out", small)):
        assert outputs[name].dtype == dtype
        assert np.array_equal(outputs[name], expected)


def test_equal_bytes_of_another_dtype_or_shape_are_not_merged(tmp_path: Path) -> None:
    tensors = {"square": SQUARE, "flat": SQUARE.reshape(-1), "whole": SQUARE.view(np.int32)}
    write_graphs(tmp_path, {"encode": graph(**tensors)}, WEIGHTS)
    assert len(set(stored(tmp_path / "encode.onnx").values())) == 3
    outputs = run(tmp_path / "encode.onnx")
    for name, expected in tensors.items():
        assert outputs[f"{name}.out"].dtype == expected.dtype
        assert np.array_equal(outputs[f"{name}.out"], expected)


def test_zeros_of_either_sign_are_not_merged(tmp_path: Path) -> None:
    zeros = np.zeros(INLINE_BYTES, np.float32)
    write_graphs(tmp_path, {"encode": graph(plus=zeros, minus=-zeros)}, WEIGHTS)
    outputs = run(tmp_path / "encode.onnx")
    assert np.signbit(outputs["minus.out"]).all()
    assert not np.signbit(outputs["plus.out"]).any()


def test_the_same_graphs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        prefix, score = graph(a=SQUARE, b=OTHER), graph(c=OTHER, d=SQUARE)
        write_graphs(tmp_path / name, {"prefix": prefix, "score": score}, WEIGHTS)
    for file in ("prefix.onnx", "score.onnx", WEIGHTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_graphs_can_be_written_again_elsewhere(tmp_path: Path) -> None:
    model = graph(a=SQUARE, b=OTHER)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_graphs(tmp_path / name, {"encode": model}, WEIGHTS)
    for file in ("encode.onnx", WEIGHTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_saved_graphs_run(tmp_path: Path) -> None:
    write_graphs(tmp_path, {"prefix": graph(a=SQUARE), "score": graph(b=SQUARE, c=OTHER)}, WEIGHTS)
    for role, name, expected in (("prefix", "a", SQUARE), ("score", "b", SQUARE), ("score", "c", OTHER)):
        outputs = run(tmp_path / f"{role}.onnx")
        assert np.array_equal(outputs[f"{name}.out"], expected)
        assert outputs["y"].tolist() == [-1, 2]


def test_graphs_of_small_tensors_run(tmp_path: Path) -> None:
    write_graphs(tmp_path, {"encode": graph(small=np.ones(3, np.float32))}, WEIGHTS)
    assert run(tmp_path / "encode.onnx")["small.out"].tolist() == [1, 1, 1]
