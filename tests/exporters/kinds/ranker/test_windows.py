"""Rankers whose layers see less than prefix and item: exact in every mode, on every target; sinks likewise."""

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.decoders.survey import Survey
from rankport.exporters.kinds.ranker.proof import samples
from rankport.protos.errors import ParityError
from support import checkpoints
from support.effort import every_run, full_effort
from support.gpu.cuda_kernels import without_kernel

LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}
RANKER: dict[str, Any] = {"kind": "ranker", "label_ids": (9, 17), **LIMITS}
MIXED: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
GEMMA: dict[str, Any] = {"head_dim": 16, "query_pre_attn_scalar": 16}
SINKS: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 16, **MIXED}
CPU: dict[str, Any] = {}
CUDA: dict[str, Any] = {"target": "onnx-cuda"}
FP16: dict[str, Any] = {**CUDA, "precision": "fp16"}
GROUPED: dict[str, Any] = {**FP16, "attention": "grouped"}

# Family, its config, options of the export.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mistral, 8": ("mistral", {"sliding_window": 8}, CPU),
    "mistral, 8, low bits": ("mistral", {"sliding_window": 8, "hidden_size": 64}, {"quantize": "int8"}),
    "gemma3, 6": ("gemma3_text", GEMMA | MIXED | {"sliding_window": 6}, CPU),
    "gpt-oss, 5": ("gpt_oss", SINKS | {"sliding_window": 5}, CPU),
    "qwen2, 8, by one kernel": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        CUDA,
    ),
    "olmo3, 16, heads copied": ("olmo3", MIXED | {"sliding_window": 16}, CUDA),
    "gemma2, 12, by products": ("gemma2", GEMMA | {"sliding_window": 12}, CUDA),
    "gpt-oss, 5, by products": ("gpt_oss", SINKS | {"sliding_window": 5}, CUDA),
    "mistral, 8, fp16": ("mistral", {"sliding_window": 8}, FP16),
    "mistral, 8, bf16": ("mistral", {"sliding_window": 8}, {**CUDA, "precision": "bf16"}),
    "mistral, 8, grouped": ("mistral", {"sliding_window": 8, "head_dim": 16}, GROUPED),
    "gpt-oss, 5, grouped": ("gpt_oss", SINKS | {"sliding_window": 5}, GROUPED),
    "gpt-oss, 5, fp16": ("gpt_oss", SINKS | {"sliding_window": 5}, FP16),
    "mistral, 8, tensorrt": ("mistral", {"sliding_window": 8}, {"target": "tensorrt", "precision": "fp16"}),
}
FEW = ("gpt-oss, 5", "gemma2, 12, by products")
"""Layouts are looked at without an export too (`test_windows_of_passes`)."""


@pytest.mark.parametrize("case", every_run(CASES, set(FEW)))
def test_an_export_equals_its_source_in_every_mode(case: str, tmp_path: Path) -> None:
    family, config, options = CASES[case]
    bundle = export(
        checkpoints.causal_lm(tmp_path / "c", family, **config), tmp_path / "b", **RANKER, **options
    )
    if options.get("target") == "onnx-cuda":
        for graph in bundle.manifest.graphs:
            assert not without_kernel(ir.load(bundle.file(graph.file)).graph)
    parity = bundle.manifest.parity
    assert parity is not None
    assert len(parity.modes) == 5
    if "precision" not in options and "quantize" not in options:
        assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
    elif parity.noise is not None:
        assert all(
            (mode.relative_error or 0.0) <= 2 * (parity.noise.relative_error or 0.0) for mode in parity.modes
        )


@pytest.mark.parametrize(
    ("options", "off"),
    [
        (CPU, -1),
        (CUDA, 1),
        pytest.param(CPU, 1, marks=full_effort),
        pytest.param(CUDA, -1, marks=full_effort),
    ],
    ids=["cpu, too near", "cuda, too far", "cpu, too far", "cuda, too near"],
)
def test_a_window_that_is_off_by_one_fails_the_proof(
    options: dict[str, Any], off: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Survey, "windows_within", lambda *_: {0: 8 + off})
    config = {"sliding_window": 8, "num_hidden_layers": 1}
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "mistral", **config)
    with pytest.raises(ParityError, match="prefix_reuse/text"):
        export(checkpoint, tmp_path / "b", **RANKER, **options)


@pytest.mark.parametrize("options", every_run([{}, CUDA], [{}]), ids=["cpu", "cuda"])
def test_a_window_beyond_ordinary_samples_is_crossed_by_one_more(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for 2,048 tokens and a window of 4,096, by shorter ones."""
    monkeypatch.setattr(samples, "LONGEST", 64)
    monkeypatch.setattr(samples, "LONGEST_WINDOW", 128)
    monkeypatch.setattr(Survey, "windows_within", lambda *_: {0: 101})
    checkpoint = checkpoints.causal_lm(
        tmp_path / "c", "mistral", sliding_window=100, num_hidden_layers=1, max_position_embeddings=256
    )
    with pytest.raises(ParityError, match="full_sequence/beyond_window") as caught:
        export(checkpoint, tmp_path / "b", **{**RANKER, "max_prefix_tokens": 112}, **options)
    for mode in ("prefix_reuse", "prefix_extension", "one_item", "many_prefixes"):
        assert f"{mode}/beyond_window" in str(caught.value)
    assert "/text" not in str(caught.value)


@pytest.mark.parametrize("options", [CPU, pytest.param(CUDA, marks=full_effort)], ids=["cpu", "cuda"])
def test_a_window_that_limits_do_not_reach_leaves_the_graph_as_it_is(
    options: dict[str, Any], tmp_path: Path
) -> None:
    made = {
        window: export(
            checkpoints.causal_lm(
                tmp_path / f"c{window}", "mistral", sliding_window=window, num_hidden_layers=1
            ),
            tmp_path / f"b{window}",
            **RANKER,
            **options,
        )
        for window in (None, 63, 64)
    }
    graphs = {window: bundle.file("score.onnx").read_bytes() for window, bundle in made.items()}
    assert graphs[64] == graphs[None] != graphs[63]
