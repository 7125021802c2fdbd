"""The exact savings are in the exported graphs: nothing is computed that no answer needs."""

from pathlib import Path

import onnx_ir as ir
import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.graphs.weights import PAGE_BYTES
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints

HIDDEN, FFN, LABELS, LAYERS = 32, 48, 2, 2


@pytest.fixture(scope="module")
def graphs(mix_bundle: Bundle) -> dict[str, ir.Model]:
    return {name: ir.load(mix_bundle.path / f"{name}.onnx") for name in ("prefix", "score")}


def weight_shapes(model: ir.Model) -> list[tuple[int, ...]]:
    """Shapes of the constant right operands of matrix products."""
    products = [node for node in model.graph if node.op_type == "MatMul"]
    constants = [node.inputs[1].const_value for node in products if node.inputs[1] is not None]
    return [tuple(constant.shape.numpy()) for constant in constants if constant is not None]


def test_score_multiplies_label_rows_only(graphs: dict[str, ir.Model]) -> None:
    shapes = weight_shapes(graphs["score"])
    assert shapes.count((HIDDEN, LABELS)) == 1
    assert (HIDDEN, checkpoints.VOCABULARY) not in shapes


def test_score_gives_logits_and_no_kv(graphs: dict[str, ir.Model]) -> None:
    assert [value.name for value in graphs["score"].graph.outputs] == ["logits"]


def test_prefix_gives_kv_and_no_logits(graphs: dict[str, ir.Model]) -> None:
    expected = [f"new_{part}.{layer}" for layer in range(LAYERS) for part in ("key", "value")]
    assert [value.name for value in graphs["prefix"].graph.outputs] == expected
    assert (HIDDEN, LABELS) not in weight_shapes(graphs["prefix"])


def test_prefix_stops_at_the_last_blocks_keys_and_values(graphs: dict[str, ir.Model]) -> None:
    score, prefix = weight_shapes(graphs["score"]), weight_shapes(graphs["prefix"])
    assert score.count((FFN, HIDDEN)) == LAYERS
    assert prefix.count((FFN, HIDDEN)) == LAYERS - 1
    inputs = {value.name for value in graphs["prefix"].graph.inputs}
    assert "past_key.0" in inputs
    assert "past_key.1" not in inputs  # the last block's attention is never computed


def test_the_last_block_computes_its_mlp_for_read_out_tokens_only(graphs: dict[str, ir.Model]) -> None:
    graph = graphs["score"].graph
    rows = next(value for value in graph.inputs if value.name == "last_tokens")
    selections = [node for node in graph if node.op_type == "Gather" and node.inputs[1] is rows]
    assert len(selections) == 2  # of the attention output and of the residual
    downstream = _reachable(selections)
    products = [node for node in downstream if node.op_type == "MatMul" and _is_constant(node.inputs[1])]
    # Output projection, gate, up, down, label head.
    assert len(products) == 5


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def _reachable(start: list[ir.Node]) -> list[ir.Node]:
    seen: dict[ir.Node, None] = {}
    todo = list(start)
    while todo:
        node = todo.pop()
        for output in node.outputs:
            for user in output.consumers():
                if user not in seen:
                    seen[user] = None
                    todo.append(user)
    return list(seen)


def test_every_dynamic_axis_has_a_name_and_a_range(mix_bundle: Bundle) -> None:
    manifest = mix_bundle.manifest
    inputs = {tensor.name: tensor.shape for graph in manifest.graphs for tensor in graph.inputs}
    assert inputs["slots"] == ["prefixes", "items", "item_tokens"]
    assert inputs["past_value.0"] == ["prefixes", 2, "past", 20]
    assert inputs["embeddings"] == ["embedding_count", HIDDEN]
    assert manifest.axes["past"].min == 0
    assert manifest.axes["past"].max == manifest.limits.max_prefix_tokens


def test_all_graphs_share_one_weights_file_without_duplicates(
    graphs: dict[str, ir.Model], mix_bundle: Bundle
) -> None:
    external = [
        tensor
        for model in graphs.values()
        for value in model.graph.initializers.values()
        if isinstance(tensor := value.const_value, ir.ExternalTensor)
    ]
    assert {str(tensor.location) for tensor in external} == {"weights.bin"}
    distinct = {tensor.offset: tensor for tensor in external}
    assert all(offset is not None and offset % PAGE_BYTES == 0 for offset in distinct)
    contents = [tensor.numpy().tobytes() for tensor in distinct.values()]
    assert len(set(contents)) == len(contents)
    assert len(external) > len(distinct)  # both graphs use the shared ones
    size = (mix_bundle.path / "weights.bin").stat().st_size
    assert size <= sum(len(content) for content in contents) + PAGE_BYTES * len(contents)


def test_graphs_hold_no_path_of_the_exporting_machine(mix_bundle: Bundle) -> None:
    for name in ("prefix", "score"):
        data = (mix_bundle.path / f"{name}.onnx").read_bytes()
        assert b"site-packages" not in data
        assert str(Path.cwd()).encode() not in data


def test_the_read_out_uses_the_heads_bias(tmp_path: Path) -> None:
    from rankport.exporters.kinds.labels.label_head import label_head

    checkpoint = load_checkpoint(checkpoints.causal_lm(tmp_path, "phi", num_key_value_heads=4))
    full = checkpoint.model.get_output_embeddings()  # type: ignore[operator]
    head = label_head(checkpoint.model, ReadOut("lm_head", (17, 9)))
    assert head.weight.equal(full.weight[[17, 9]])  # type: ignore[union-attr]
    assert head.bias.equal(full.bias[[17, 9]])  # type: ignore[union-attr]
