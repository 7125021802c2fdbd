"""Decoders whose layers are not all of attention: recurrent ones go on from the state that a prefix ends in."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine, Scored
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.effort import every_run, full_effort
from support.hybrids import FAMILIES, hybrid

EVERY_RUN = ("granite4",)

LABELS = (9, 17)


@pytest.fixture(scope="module", params=every_run(FAMILIES, EVERY_RUN))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A checkpoint and its bundle."""
    folder = tmp_path_factory.mktemp("hybrid")
    checkpoint = hybrid(folder / "checkpoint", request.param)
    limits = {"max_prefix_tokens": 60, "max_item_tokens": 16}
    bundle = export(checkpoint, folder / "bundle", kind="ranker", label_ids=LABELS, **limits)
    return checkpoint, bundle


def test_an_export_equals_its_source_in_every_mode(exported: tuple[Path, Bundle]) -> None:
    parity = exported[1].manifest.parity
    assert parity is not None
    assert len(parity.modes) == 5
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


def test_states_are_kept_as_wholes_beside_the_tokens_keys_and_values(exported: tuple[Path, Bundle]) -> None:
    manifest = exported[1].manifest
    (prefix,) = (graph for graph in manifest.graphs if graph.role == "prefix")
    states = [output for output in prefix.outputs if "slots_per_prefix" not in output.shape]
    assert states
    assert all(state.name.startswith(("new_conv_state.", "new_recurrent_state.")) for state in states)
    assert all(state.shape[0] == "prefixes" for state in states)
    assert 2 * len(manifest.shape.layers) + len(states) == len(prefix.outputs)


@pytest.mark.parametrize("instances", [1, 2])
def test_prefixes_that_begin_alike_share_what_they_can_and_answer_as_the_source(
    exported: tuple[Path, Bundle], instances: int
) -> None:
    checkpoint, bundle = exported
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    random = np.random.default_rng(5)
    instruction = random.integers(3, 100, 30)
    queries = [random.integers(3, 100, size) for size in (9, 4, 12, 9)]
    items = [random.integers(3, 100, size) for size in (5, 1, 16, 7)]

    def expected(prefix: np.ndarray) -> np.ndarray:
        rows = []
        for item in items:
            with torch.no_grad():
                ids = torch.tensor(np.concatenate([prefix, item]))[None]
                rows.append(model(ids).logits[0, -1, list(LABELS)].numpy())
        return np.array(rows)

    config = EngineConfig(instances=instances)
    with closing(Engine(load_prefix_backend(bundle, config), config)) as engine:

        def score(prefix: np.ndarray) -> Scored:
            runs = TokenRuns.of([TokenRun(item) for item in items])
            return engine.submit(TokenRun(prefix), runs).result(60)

        computed = []
        for query in queries:
            prefix = np.concatenate([instruction, query])
            scored = score(prefix)
            np.testing.assert_allclose(scored.logits, expected(prefix), atol=1e-4)
            computed.append(scored.prefix_tokens_computed)
        # The second computes the instruction by itself, for all those to come; states cannot be split.
        assert computed == [39, 34, 12, 9]
        again = score(np.concatenate([instruction, queries[0]]))
        assert again.prefix_tokens_computed == 0
        longer = np.concatenate([instruction, queries[0], queries[1]])
        scored = score(longer)
        np.testing.assert_allclose(scored.logits, expected(longer), atol=1e-4)
        assert scored.prefix_tokens_computed == 4
        bare = score(np.empty(0, np.int64))
        np.testing.assert_allclose(bare.logits, expected(np.empty(0, np.int64)), atol=1e-4)


def test_low_bits_and_one_graph_for_both_roles_go_with_it(tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", "lfm2")
    bundle = export(
        checkpoint,
        tmp_path / "bundle",
        kind="ranker",
        label_ids=LABELS,
        max_prefix_tokens=40,
        max_item_tokens=16,
        quantize="int8",
    )
    assert len({graph.file for graph in bundle.manifest.graphs}) == 1
    assert bundle.manifest.parity is not None


@pytest.mark.parametrize("target", ["tensorrt", "onnx-cuda,tensorrt"])
def test_tensorrt_is_refused_with_the_layers(target: str, tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", "lfm2")
    with pytest.raises(
        CheckpointError,
        match=r"layers \[0\] are recurrent, which graphs for tensorrt do not compute yet: .* onnx-cpu, onnx-cuda",
    ):
        export(checkpoint, tmp_path / "bundle", kind="ranker", label_ids=LABELS, target=target)
    assert not (tmp_path / "bundle").exists()


def test_grouped_attention_is_refused_with_the_layers(tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", "lfm2")
    options = {"target": "onnx-cuda", "precision": "fp16", "attention": "grouped"}
    with pytest.raises(
        CheckpointError, match=r"layers \[0\] are recurrent, .*grouped does not tell apart: take"
    ):
        export(checkpoint, tmp_path / "bundle", kind="ranker", label_ids=LABELS, **options)
    assert not (tmp_path / "bundle").exists()


@full_effort
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_for_cuda_is_as_close_as_transformers_and_carries_states_in_fp32(
    precision: str, tmp_path: Path
) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", "granite4")
    options = {"target": "onnx-cuda", "precision": precision, "max_prefix_tokens": 40, "max_item_tokens": 16}
    manifest = export(checkpoint, tmp_path / "b", kind="ranker", label_ids=LABELS, **options).manifest
    parity = manifest.parity
    assert parity is not None
    assert parity.noise is not None
    noise = parity.noise.relative_error
    assert noise is not None
    assert all(1e-5 < (mode.relative_error or 0.0) <= 2 * noise for mode in parity.modes)
    (prefix,) = (graph for graph in manifest.graphs if graph.role == "prefix")
    types = {output.name.split(".")[0]: output.dtype for output in prefix.outputs}
    half = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert types == {
        "new_key": half,
        "new_value": half,
        "new_conv_state": half,
        "new_recurrent_state": "float32",
    }
