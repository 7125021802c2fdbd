"""Graphs for a GPU: fused for CUDA, in half precision, equal to their source as far as they are rounded."""

import re
from collections import Counter
from pathlib import Path

import onnx_ir as ir
import pytest

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from support import checkpoints
from support.effort import every_run, full_effort

LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}
RANKER = {"kind": "ranker", "label_ids": (9, 17), **LIMITS}

# Besides the Llama form: soft-capping; layer norms and partial rotary; fused projections; norms after the blocks.
FAMILIES = {
    "qwen3": {"head_dim": 24},
    "gemma2": {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16},
    "gpt_neox": {"num_hidden_layers": 1},
    "phi3": {"num_hidden_layers": 1},
    "olmo2": {"num_hidden_layers": 1},
}


def _operators(bundle: Bundle, graph: str) -> Counter[str]:
    return Counter(node.op_type for node in ir.load(bundle.path / graph).graph)


@pytest.mark.parametrize("family", every_run(FAMILIES, {"qwen3", "gemma2"}))
def test_a_graph_for_cuda_equals_its_source_in_every_mode(family: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", family, **FAMILIES[family])
    bundle = export(checkpoint, tmp_path / "b", target="onnx-cuda", **RANKER)
    parity = bundle.manifest.parity
    assert parity is not None
    assert len(parity.modes) == 5
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


def test_norms_rotations_and_scales_become_one_operator_each(tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=2)
    bundle = export(checkpoint, tmp_path / "b", target="onnx-cuda", attention="shared", **RANKER)
    score = _operators(bundle, "score.onnx")
    layers = 2
    assert score["RotaryEmbedding"] == 2 * layers
    # Two norms of states and two of heads a layer, and the last.
    norms = score["SimplifiedLayerNormalization"] + score["SkipSimplifiedLayerNormalization"]
    assert norms == 4 * layers + 1
    assert score["FusedMatMul"] == 2 * layers
    # Queries, keys, values and what attention gives, each laid out once.
    assert score["Transpose"] == 4 * layers
    # What is counted from a shape would be made on the host and copied in every pass.
    assert not {"Range", "Where", "NonZero"} & set(score)
    assert score["Gather"] == 4  # the embedding table; of the last block's rows, twice; the labels


def test_attention_is_one_operator_unless_asked_otherwise(tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=2)
    fused = export(checkpoint, tmp_path / "b", target="onnx-cuda", **RANKER)
    score = _operators(fused, "score.onnx")
    assert score["MultiHeadAttention"] == 2
    assert not {"Softmax", "Range"} & set(score)
    assert score["Transpose"] == 2 * 2  # the prefix's keys and values, by row


def _attention(bundle: Bundle, graph: str = "score.onnx") -> list[ir.Node]:
    nodes = ir.load(bundle.path / graph).graph
    return [node for node in nodes if node.op_type == "MultiHeadAttention"]


def _copied(value: ir.Value | None) -> bool:
    """Tells whether heads are copied between KV with its prefix and the operator."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type != "Concat":
        if node.op_type == "Expand":
            return True
        value = node.inputs[0]
        node = None if value is None else value.producer()
    return False


def _heads(node: ir.Node) -> int:
    return node.attributes.get_int("num_heads", 0)


@pytest.mark.parametrize("graphs", every_run(["separate", "joint"], {"joint"}))
def test_heads_that_share_keys_are_rows_of_one_head_and_nothing_is_copied(
    graphs: str, tmp_path: Path
) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=2, attention_bias=True)
    bundle = export(checkpoint, tmp_path / "b", target="onnx-cuda", graphs=graphs, **RANKER)
    nodes = _attention(bundle, "ranker.onnx" if graphs == "joint" else "score.onnx")
    assert [_heads(node) for node in nodes] == [2, 2]
    assert not any(_copied(value) for node in nodes for value in node.inputs[1:3])
    parity = bundle.manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


@pytest.mark.parametrize(
    ("family", "options"),
    [("olmo2", {}), ("qwen3", {"attention": "grouped", "precision": "fp16"})],
    ids=["norms of the whole width", "an operator that takes heads as they are"],
)
def test_a_model_whose_heads_stay_in_order_has_them_copied_and_is_proven(
    family: str, options: dict[str, str], tmp_path: Path
) -> None:
    shape = {"num_hidden_layers": 1, "hidden_size": 64}
    checkpoint = checkpoints.causal_lm(tmp_path / "c", family, **shape)
    bundle = export(checkpoint, tmp_path / "b", target="onnx-cuda", **RANKER, **options)
    (node,) = _attention(bundle)
    assert _heads(node) == 4
    assert all(map(_copied, node.inputs[1:3]))


@pytest.mark.parametrize(
    ("heads", "head_dim", "alone"), [(4, 64, 2), (6, 8, 6)], ids=["halves of a group", "less than a group"]
)
def test_groups_of_low_bits_are_moved_in_parts_that_a_kernel_takes_or_not_at_all(
    heads: int, head_dim: int, alone: int, tmp_path: Path
) -> None:
    shape = {"num_attention_heads": heads, "head_dim": head_dim, "num_hidden_layers": 1, "hidden_size": 96}
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "llama", **shape)
    bundle = export(checkpoint, tmp_path / "b", target="onnx-cuda", quantize="int4", **RANKER)
    (node,) = _attention(bundle, "ranker.onnx")
    assert _heads(node) == alone


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.causal_lm(tmp_path_factory.mktemp("half") / "c", "qwen3", num_hidden_layers=2)


HALVES = ("onnx-cuda bf16", "onnx-cuda fp16", "tensorrt bf16")


@pytest.fixture(scope="module", params=HALVES)
def half(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    target, precision = request.param.split()
    out = tmp_path_factory.mktemp("half") / "b"
    return export(checkpoint, out, target=target, precision=precision, **RANKER)


def test_half_precision_is_as_close_as_transformers_in_the_same_precision(half: Bundle) -> None:
    parity = half.manifest.parity
    assert parity is not None
    assert parity.noise is not None
    assert "emulated" in parity.backend
    assert half.manifest.precision in ("bf16", "fp16")
    noise = parity.noise.relative_error
    assert noise is not None
    # Rounded to 8 bits of mantissa, or 11: neither exact, nor far off.
    assert 1e-5 < noise < 0.05
    assert all(1e-5 < (mode.relative_error or 0.0) <= 2 * noise for mode in parity.modes)


def test_half_precision_halves_the_weights_and_keeps_the_read_out_exact(half: Bundle) -> None:
    manifest = half.manifest
    parameters = manifest.source.parameters
    weights = (half.path / "weights.bin").stat().st_size
    assert weights <= 2 * parameters + 4096 * 64
    score = next(graph for graph in manifest.graphs if graph.role == "score")
    prefix = next(graph for graph in manifest.graphs if graph.role == "prefix")
    dtype = {"bf16": "bfloat16", "fp16": "float16"}[manifest.precision]
    assert {tensor.dtype for tensor in prefix.outputs} == {dtype}
    assert {
        tensor.dtype for tensor in score.inputs if tensor.name.startswith(("past_key", "past_value"))
    } == {dtype}
    assert [tensor.dtype for tensor in score.outputs] == ["float32"]
    graph = ir.load(half.path / "score.onnx").graph
    last = [node for node in graph if node.op_type in ("MatMul", "FusedMatMul")][-1]
    assert {value.const_value.dtype for value in last.inputs if value.const_value is not None} == {
        ir.DataType.FLOAT
    }


def test_a_twin_leaves_nothing_beside_the_bundle(half: Bundle) -> None:
    assert [path.name for path in half.path.parent.iterdir()] == [half.path.name]


def test_a_cpu_does_not_serve_half_precision(half: Bundle) -> None:
    with pytest.raises(
        InvalidRequest, match=f"in {half.manifest.precision}, which a CPU.*--device (cuda|tensorrt)"
    ):
        Ranker.load(half)


@pytest.mark.parametrize("half", every_run(HALVES, {"onnx-cuda fp16"}), indirect=True)
def test_verify_proves_half_precision_again(half: Bundle, checkpoint: Path) -> None:
    verdict = verify(half.path, checkpoint)
    assert verdict.failures == ()
    assert verdict.proof.parity == half.manifest.parity


def test_weights_beyond_float16_are_refused_with_the_way_out(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    source = checkpoints.causal_lm(tmp_path / "c", "llama", num_hidden_layers=1)
    file = source / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = torch.where(tensors[name] == tensors[name].max(), torch.tensor(1e5), tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError,
        match=f"^weight '{re.escape(name)}' holds 1e\\+05, beyond float16: use --precision bf16",
    ):
        export(source, tmp_path / "b", target="onnx-cuda", precision="fp16", **RANKER)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("target", "precision", "dtype"),
    [
        ("onnx-cuda", "fp16", "float16"),
        pytest.param("tensorrt", "fp16", "float16", marks=full_effort),
        pytest.param("onnx-cuda", "bf16", "float32", marks=full_effort),
    ],
)
def test_given_embeddings_are_chosen_before_they_are_narrowed_and_come_in_float16_where_it_computes_in_it(
    target: str, precision: str, dtype: str, tmp_path: Path
) -> None:
    """On a device they may be those of a whole catalogue; a host has no bfloat16."""
    made = export(
        checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=1),
        tmp_path / "b",
        kind="ranker",
        label_ids=(9, 17),
        item_encoder="0" * 64,
        embedding_tokens=1,
        target=target,
        precision=precision,
        max_prefix_tokens=16,
        max_item_tokens=8,
    )
    for spec in made.manifest.graphs:
        graph = ir.load(made.file(spec.file)).graph
        given = next(value for value in graph.inputs if value.name == "embeddings")
        assert [node.op_type for node, _ in given.uses()] == ["Gather"]
        assert [tensor.dtype for tensor in spec.inputs if tensor.name == "embeddings"] == [dtype]
