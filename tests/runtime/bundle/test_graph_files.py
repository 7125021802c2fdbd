"""`graph_files`: every file that a graph would have a runtime open is known before it is opened."""

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.graph_files import GraphNode, check_graph_files, external_locations, graph_nodes
from rankport.runtime.kinds.table import open_bundle
from support.bundle_samples import ENCODER_FILES, encoder_draft, write_directory
from support.effort import scale


def tensor(location: str, name: str = "w") -> TensorProto:
    """A tensor of four floats kept in the file `location`."""
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        made.external_data.add(key=key, value=value)
    return made


def graph(*initializers: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(initializers))


def model(*initializers: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.ModelProto:
    return helper.make_model(graph(*initializers, nodes=nodes))


def written(tmp_path: Path, made: onnx.ModelProto) -> Path:
    file = tmp_path / "graph.onnx"
    file.write_bytes(made.SerializeToString())
    return file


def everywhere() -> onnx.ModelProto:
    """External tensors in every place where ONNX allows a tensor."""
    branch = helper.make_node("If", ["c"], ["y"], then_branch=graph(tensor("a.bin")), else_branch=graph())
    constant = helper.make_node("Constant", [], ["k"], value=tensor("b.bin"))
    listed = helper.make_node("Custom", [], ["z"])
    listed.attribute.append(
        onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSORS, tensors=[tensor("c.bin")])
    )
    listed.attribute.append(
        onnx.AttributeProto(name="g", type=onnx.AttributeProto.GRAPHS, graphs=[graph(tensor("d.bin"))])
    )
    sparse = onnx.SparseTensorProto(values=tensor("e.bin"), indices=tensor("f.bin"))
    listed.attribute.append(onnx.AttributeProto(name="s", sparse_tensor=sparse, sparse_tensors=[sparse]))
    made = model(tensor("weights.bin"), tensor("weights.bin", "v"), nodes=(branch, constant, listed))
    made.graph.sparse_initializer.add(values=tensor("g.bin"), indices=TensorProto())
    made.functions.add(name="f").node.append(helper.make_node("Constant", [], ["k"], value=tensor("h.bin")))
    made.training_info.add(algorithm=graph(tensor("i.bin")), initialization=graph(tensor("j.bin")))
    return made


def test_a_graph_with_inline_tensors_needs_no_file(tmp_path: Path) -> None:
    inline = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    assert external_locations(written(tmp_path, model(inline))) == set()


def test_external_tensors_are_found_wherever_onnx_allows_one(tmp_path: Path) -> None:
    expected = {"weights.bin", *(f"{letter}.bin" for letter in "abcdefghij")}
    assert external_locations(written(tmp_path, everywhere())) == expected


def test_deep_nesting_is_walked_to_its_end(tmp_path: Path) -> None:
    inner = graph(tensor("deep.bin"))
    for _ in range(15):
        inner = graph(nodes=(helper.make_node("If", ["c"], ["y"], then_branch=inner),))
    made = helper.make_model(inner)
    assert external_locations(written(tmp_path, made)) == {"deep.bin"}


def test_a_repeated_location_counts_with_every_value(tmp_path: Path) -> None:
    twice = tensor("first.bin")
    twice.external_data.add(key="location", value="second.bin")
    assert external_locations(written(tmp_path, model(twice))) == {"first.bin", "second.bin"}


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "./tokenizer.json", "", "absent.bin"])
def test_a_graph_that_points_past_the_listed_files_is_refused(tmp_path: Path, location: str) -> None:
    files = {**ENCODER_FILES, "encode.onnx": model(tensor(location)).SerializeToString()}
    bundle = open_bundle(write_directory(tmp_path, encoder_draft(), files))
    with pytest.raises(BundleError, match=f"'encode.onnx' keeps tensors in '{location}'"):
        check_graph_files(bundle, "encode.onnx")


def test_nodes_are_read_with_operator_name_and_domain(tmp_path: Path) -> None:
    inner = graph(nodes=(helper.make_node("Relu", ["x"], ["y"], name="inside"),))
    nodes = (
        helper.make_node("If", ["c"], ["y"], name="outside", then_branch=inner, else_branch=graph()),
        helper.make_node("Custom", ["x"], ["z"], domain="com.example"),
    )
    found = graph_nodes(written(tmp_path, model(nodes=nodes)))
    assert found == [
        GraphNode("If", "outside", ""),
        GraphNode("Relu", "inside", ""),
        GraphNode("Custom", "", "com.example"),
    ]


def test_a_graph_that_points_at_a_listed_file_passes(tmp_path: Path) -> None:
    files = {
        **ENCODER_FILES,
        "encode.onnx": model(tensor("weights.bin")).SerializeToString(),
        "weights.bin": bytes(16),
    }
    check_graph_files(open_bundle(write_directory(tmp_path, encoder_draft(), files)), "encode.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"the encode graph", b"\x3a\xff", b"\xff" * 20, b"\x0b", b"\x3d\x00"]
)
def test_what_is_no_onnx_model_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "graph.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"graph\.onnx: not an ONNX model"):
        external_locations(file)


@settings(max_examples=scale(100))
@given(st.data())
def test_a_damaged_graph_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(everywhere().SerializeToString())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "graph.onnx"
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        found = external_locations(file)
    except BundleError:
        return
    assert all(isinstance(location, str) for location in found)
