"""`--quantize`: low bits from a full-precision checkpoint to a gRPC answer, proven, gated and repeatable."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.graphs.weights import PAGE_BYTES
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.exporters.options.requests_file import file_sha256
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import RECIPES
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest, ParityError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.server import Server
from rankport.runtime.tokens import TokenRun
from rankport.sdk import Client
from support import checkpoints
from support.forms.quantized_checkpoints import compressed_tensors
from support.servers.serving import LOCAL

LABELS = (9, 17)
LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for groups of 128, in one projection of 384 for three of them."""
    shape = {"hidden_size": 128, "intermediate_size": 384, "head_dim": 32, "initializer_range": 0.06}
    return checkpoints.causal_lm(tmp_path_factory.mktemp("low-bit"), "qwen3", num_hidden_layers=1, **shape)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    lines = [
        {
            "prefix": rng.integers(3, 100, 9).tolist(),
            "items": [rng.integers(3, 100, 5).tolist() for _ in range(10)],
            "gains": rng.permutation(10).tolist(),
        }
        for _ in range(6)
    ]
    file = tmp_path_factory.mktemp("requests") / "judged.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return file


@pytest.fixture(scope="module")
def int4(checkpoint: Path, requests: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Calibrated and judged."""
    return export(
        checkpoint,
        tmp_path_factory.mktemp("bundles") / "int4",
        kind="ranker",
        label_ids=LABELS,
        quantize="int4",
        calibration=requests,
        judged=requests,
        tolerance=Tolerance(max_ndcg_loss=1.0),
        **LIMITS,
    )


@pytest.fixture(scope="module")
def int8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """To the nearest code."""
    out = tmp_path_factory.mktemp("bundles") / "int8"
    return export(checkpoint, out, kind="ranker", label_ids=LABELS, quantize="int8", **LIMITS)


def test_the_manifest_says_what_is_low_bit_and_what_is_not(int4: Bundle, requests: Path) -> None:
    made = int4.manifest.quantization
    assert made is not None
    assert (made.by, made.method, made.format) == ("export", "GPTQ", "int4")
    linear, embedding = made.parts
    assert (linear.part, linear.layers, linear.bits, linear.group_size) == ("linear", 7, 4, 128)
    assert linear.activations == "int8 per 128 channels"
    assert (embedding.part, embedding.bits) == ("embedding", 8)
    assert made.kept == ["label rows of the LM head"]
    assert made.calibration is not None
    assert made.calibration.requests == 6
    assert made.calibration.passed_over == 6 * (10 - 8)
    assert made.calibration.sha256 == file_sha256(requests)


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_nothing_low_bit_is_stored_in_full_size(name: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(name)
    assert bundle.manifest.quantization is not None
    bits = sum(part.weights * part.bits // 8 for part in bundle.manifest.quantization.parts)
    graph = ir.load(bundle.path / "ranker.onnx").graph
    tensors = [value.const_value for value in graph.initializers.values() if value.const_value is not None]
    stored = sum(tensor.nbytes for tensor in tensors)
    pages = sum(isinstance(tensor, ir.ExternalTensor) for tensor in tensors) * PAGE_BYTES
    # Norms and label rows are a large part of a model this small.
    assert stored <= 1.1 * bits + 4 * 4000
    assert (bundle.path / "weights.bin").stat().st_size <= stored + pages


def test_one_graph_serves_both_roles(int8: Bundle) -> None:
    roles = {graph.role: graph for graph in int8.manifest.graphs}
    assert roles["prefix"].file == roles["score"].file == "ranker.onnx"
    assert [output.name for output in roles["score"].outputs] == ["logits"]
    assert [output.name for output in roles["prefix"].outputs][:2] == ["new_key.0", "new_value.0"]


def test_the_low_bit_model_answers_over_grpc_as_its_maths_does_in_torch(
    int8: Bundle, checkpoint: Path
) -> None:
    source = load_checkpoint(checkpoint)
    quantize(source.model, RECIPES["int8"], None)
    rng = np.random.default_rng(5)
    prefix = rng.integers(3, 100, 11)
    items = [rng.integers(3, 100, length) for length in (1, 4, 9, 2)]
    reference = RankerReference(source, ReadOut("lm_head", LABELS))
    expected = reference.logits(TokenRun(prefix), [TokenRun(item) for item in items])
    with (
        Ranker.load(int8) as ranker,
        Server({"int8": ranker}, LOCAL) as server,
        Client(server.address, model="int8") as client,
    ):
        cold = client.score(prefix.tolist(), [item.tolist() for item in items])
        warm = client.score(prefix.tolist(), [item.tolist() for item in items])
    assert warm.usage.prefix_tokens_cached == len(prefix)
    for answer in (cold, warm):
        assert np.linalg.norm(answer.logits - expected) / np.linalg.norm(expected) <= 1e-2


def test_verify_makes_the_low_bit_model_again_and_measures_against_both(
    int4: Bundle, checkpoint: Path, requests: Path
) -> None:
    lenient = Tolerance(max_ndcg_loss=1.0)
    verdict = verify(int4.path, checkpoint, calibration=requests, judged=requests, tolerance=lenient)
    assert verdict.failures == ()
    assert int4.manifest.parity is not None
    assert verdict.proof.drift is not None
    drift = {mode.mode: mode.relative_error or 0.0 for mode in verdict.proof.drift}
    parity = {mode.mode: mode.relative_error or 0.0 for mode in verdict.proof.parity.modes}
    assert set(drift) == {"random tokens", "judged"}
    # Four bits move the model; the graphs hardly move what four bits made of it.
    assert drift["judged"] > 5 * parity["judged"]
    assert parity["judged"] <= 1e-2


def test_another_calibration_file_or_none_is_refused_by_its_hash(
    int4: Bundle, int8: Bundle, checkpoint: Path, requests: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(requests.read_text().splitlines()[0])
    with pytest.raises(InvalidRequest, match=file_sha256(requests)):
        verify(int4.path, checkpoint)
    with pytest.raises(InvalidRequest, match=file_sha256(other)):
        verify(int4.path, checkpoint, calibration=other)
    with pytest.raises(InvalidRequest, match="without one"):
        verify(int8.path, checkpoint, calibration=requests)


def test_the_quality_gate_refuses_what_loses_too_much_and_leaves_nothing(
    int4: Bundle, checkpoint: Path, requests: Path, tmp_path: Path
) -> None:
    quality = int4.manifest.quality
    assert quality is not None
    loss = max(
        quality.ndcg_at_1_source - quality.ndcg_at_1_bundle,
        quality.ndcg_at_10_source - quality.ndcg_at_10_bundle,
    )
    assert loss > 0, "choose requests on which four bits lose"
    with pytest.raises(ParityError, match="max-ndcg-loss"):
        export(
            checkpoint,
            tmp_path / "b",
            kind="ranker",
            label_ids=LABELS,
            quantize="int4",
            calibration=requests,
            judged=requests,
            tolerance=Tolerance(max_ndcg_loss=loss / 2),
            **LIMITS,
        )
    assert list(tmp_path.iterdir()) == []


def test_the_tolerance_of_rounded_activations_can_fail(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"relative error 1\.0e-12"):
        export(
            checkpoint,
            tmp_path / "b",
            kind="ranker",
            label_ids=LABELS,
            quantize="int8",
            tolerance=Tolerance(max_relative_error=1e-12),
            **LIMITS,
        )


def test_a_base_without_an_adapter_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InvalidRequest, match="is no adapter"):
        load_checkpoint(checkpoint, base=checkpoint)


def test_a_model_that_is_quantized_already_is_kept_so(tmp_path: Path) -> None:
    quantized = compressed_tensors(tmp_path / "c", "W4A16")
    with pytest.raises(CheckpointError, match="quantized already"):
        export(quantized, tmp_path / "b", kind="ranker", label_ids=LABELS, quantize="int8")
