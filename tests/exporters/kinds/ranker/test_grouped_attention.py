"""The second form of a ranker's graph for CUDA: proven beside the first, of the same weights, chosen by version."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.exporters.proof.emulation import runnable
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import LayerKV, TensorSpec
from rankport.runtime.config import EngineConfig
from support import checkpoints
from support.effort import full_effort
from support.gpu.host_device import HostMemory, host_backend

LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}
GROUPED = {
    "kind": "ranker",
    "label_ids": (9, 17),
    "target": "onnx-cuda",
    "precision": "fp16",
    "attention": "grouped",
    **LIMITS,
}
# Soft-capping; partial rotary, which stays outside; norms of the whole width; fused projections.
FAMILIES = {
    "gemma2": {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16},
    "gpt_neox": {"num_attention_heads": 2, "hidden_size": 32},
    "olmo2": {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 32},
    "phi3": {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 32},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("grouped")
    checkpoint = checkpoints.causal_lm(folder / "c", "qwen3", num_hidden_layers=1)
    return export(checkpoint, folder / "b", **GROUPED)


@pytest.fixture(scope="module")
def twin(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle as a CPU can run it, with the types that its graphs then have."""
    with runnable(bundle) as place:
        manifest = place.bundle.manifest
        graphs = [
            graph.model_copy(
                update={"inputs": [*map(_wide, graph.inputs)], "outputs": [*map(_wide, graph.outputs)]}
            )
            for graph in manifest.graphs
        ]
        yield Bundle(place.bundle.path, manifest.model_copy(update={"graphs": graphs}))


def _wide(tensor: TensorSpec) -> TensorSpec:
    return tensor.model_copy(update={"dtype": "float32"}) if tensor.dtype == "float16" else tensor


def test_the_version_of_onnxruntime_chooses_the_form(bundle: Bundle) -> None:
    def score(version: str | None) -> str:
        return bundle.for_onnxruntime(version).graph("score").file

    assert [score(version) for version in (None, "1.9.0", "1.31.1")] == ["score.onnx"] * 3
    assert [score(version) for version in ("1.32.0", "1.33.0.dev1", "2.0.0")] == ["score.grouped.onnx"] * 3
    assert {graph.role for graph in bundle.for_onnxruntime("1.32.0").manifest.graphs} == {"prefix", "score"}
    assert bundle.graph("score").file == "score.onnx"


def test_one_operator_a_layer_normalizes_rotates_and_attends(bundle: Bundle) -> None:
    nodes = list(ir.load(bundle.file("score.grouped.onnx")).graph)
    attention = next(node for node in nodes if node.op_type == "GroupQueryAttention")
    assert attention.attributes.get_int("do_rotary", 0) == 1
    assert all(attention.inputs[place] is not None for place in (7, 8, 9, 14, 15, 16))
    assert attention.inputs[10] is None  # no bias, for which CUDA has no fused kernel
    left_out = {"RotaryEmbedding", "MultiHeadAttention", "Softmax", "Range", "Where", "NonZero"}
    assert not left_out & {node.op_type for node in nodes}
    # Before attention, after it, and the last.
    norms = [node for node in nodes if node.op_type.endswith("SimplifiedLayerNormalization")]
    assert len(norms) == 3


def test_both_forms_read_the_same_weights(bundle: Bundle) -> None:
    parameters = bundle.manifest.source.parameters
    assert (bundle.path / "weights.bin").stat().st_size <= 2 * parameters + 4096 * 32


def test_a_device_answers_through_both_forms_alike_in_every_mode(twin: Bundle) -> None:
    shape, limits = twin.manifest.shape, twin.manifest.limits
    requests = list(sample_requests(shape.vocab_size, shape.hidden_size, limits, None))
    plain = OnnxRuntimePrefixBackend(twin, EngineConfig(threads=1))
    grouped = host_backend(twin.for_onnxruntime("1.32.0"), HostMemory())
    for mode, run in MODES.items():
        for expected, given in zip(run(plain, requests), run(grouped, requests), strict=True):
            np.testing.assert_allclose(given, expected, atol=2e-2, err_msg=mode)
    grouped.close()


def test_the_proof_holds_what_the_farther_form_is_off_by(bundle: Bundle) -> None:
    parity = bundle.manifest.parity
    assert parity is not None
    assert parity.noise is not None
    noise = parity.noise.relative_error
    assert noise is not None
    assert len(parity.modes) == 5
    assert all(1e-5 < (mode.relative_error or 0.0) <= 2 * noise for mode in parity.modes)


@full_effort
@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_qualify_pass_the_proof(family: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", family, num_hidden_layers=1, **FAMILIES[family])
    assert export(checkpoint, tmp_path / "b", **GROUPED).manifest.onnxruntimes == ("1.32",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": None}, "--attention grouped goes with --precision fp16 or bf16"),
        (
            {"item_encoder": "0" * 64, "embedding_tokens": 1},
            "--attention grouped is for texts, an item a row",
        ),
    ],
)
def test_what_it_does_not_compute_is_refused_before_a_load(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        export(tmp_path / "none", tmp_path / "b", **GROUPED | options)


def test_heads_of_other_widths_are_refused() -> None:
    from rankport.exporters.kinds.decoders.grouped_attention import require_grouped

    require_grouped([LayerKV(kv_heads=1, head_dim=48)])
    with pytest.raises(CheckpointError, match="heads of width 24: --attention grouped takes multiples of 16"):
        require_grouped([LayerKV(kv_heads=1, head_dim=16), LayerKV(kv_heads=1, head_dim=24)])
