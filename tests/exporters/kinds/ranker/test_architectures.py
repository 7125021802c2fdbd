"""Every decoder family exports by the one generic route and equals its source in every mode; misfits are refused."""

from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError
from rankport.runtime.backends.tensorrt.build import DEFAULT_TARGETS, BuildTarget, build_plans
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints
from support.effort import FACTOR, every_run

# What makes each family worth a test of its own stands beside it.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {}),  # biases on query, key and value only
    "qwen3-wide-heads": ("qwen3", {"head_dim": 24}),  # query and key norms, head_dim > hidden / heads
    "llama-tied-biased": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "mistral-narrow-heads": ("mistral", {"head_dim": 4, "sliding_window": 64}),
    "gemma2": ("gemma2", {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}),  # soft-capping
    "gemma3": (
        "gemma3_text",  # sliding and full layers with a rotary base each
        {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}
        | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "phi3": ("phi3", {}),  # fused projections
    "smollm3": (
        "smollm3",
        {"no_rope_layers": [1, 0]},
    ),  # a layer without rotary
    "olmo2": ("olmo2", {}),  # norms after the blocks
    "gpt_neox": ("gpt_neox", {}),  # parallel residual, partial rotary, layer norms
    "granite": (
        "granite",
        {"logits_scaling": 3.0, "residual_multiplier": 0.5},
    ),  # scaled logits and residuals
    "cohere": ("cohere", {}),  # scaled logits, interleaved rotary
    "qwen3-moe": (
        "qwen3_moe",  # a mixture of experts, stored expert by expert
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    ),
    "deepseek-v2": (
        "deepseek_v2",  # latent attention: values narrower than keys; rotations of complex numbers; shared experts
        {"num_key_value_heads": 4, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12}
        | {"kv_lora_rank": 16, "q_lora_rank": 24, "n_routed_experts": 4, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 16, "n_shared_experts": 1, "first_k_dense_replace": 1},
    ),
    "llama4": (
        "llama4_text",  # queries scaled by their place, layers without rotary, chunks
        {"head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 4, "no_rope_layers": [1, 0]}
        | {"floor_scale": 65, "layer_types": ["chunked_attention", "full_attention"]}
        | {"attention_chunk_size": 64},
    ),
    "gemma4": (
        "gemma4_text",  # embeddings by layer, KV of a layer before, heads wider in full layers
        {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
        | {"num_kv_shared_layers": 2, "head_dim": 8, "global_head_dim": 16, "sliding_window": 64}
        | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": checkpoints.VOCABULARY},
    ),
    "nemotron": ("nemotron", {}),  # layers that hand attention no arguments of the call
}

# Built in every run, for the operators that only it has; the others under full effort: four seconds each.
BUILT = ("gemma2",)

# Two layers where they may differ, or where plans are built: the prefill of one layer reads no past. Of the others one,
# which takes half of the time.
TWO_LAYERS = (*BUILT, "gpt_neox", "qwen3-wide-heads", "gemma3", "smollm3", "deepseek-v2", "llama4")


ALIKE = (
    "qwen2",
    "llama-tied-biased",
    "mistral-narrow-heads",
    "granite",
    "phi3",
    "cohere",
    "olmo2",
    "nemotron",
)
"""Differ from others by what the model's own code computes alone."""

LONG = ("gemma4", "llama4")
"""Seconds each; what they alone have is looked at without an export too (`test_survey`, `test_complex_pairs`)."""


EXPERTS = ("qwen3-moe", "deepseek-v2")
"""Their graph for a CPU has an operator that TensorRT has not: plans are made of the one for TensorRT."""


def export_family(family: str, folder: Path, **options: Any) -> Bundle:
    model_type, overrides = FAMILIES[family]
    layers = 2 if FACTOR > 1 or family in TWO_LAYERS else 1
    return export(
        checkpoints.causal_lm(
            folder / "checkpoint", model_type, **({"num_hidden_layers": layers} | overrides)
        ),
        folder / "bundle",
        kind="ranker",
        label_ids=(9, 17),
        max_prefix_tokens=40,
        max_item_tokens=24,
        **options,
    )


@pytest.fixture(scope="module", params=every_run(FAMILIES, FAMILIES.keys() - {*ALIKE, *LONG}))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Bundle]:
    """Its family, and its bundle."""
    return request.param, export_family(request.param, tmp_path_factory.mktemp("family"))


def test_an_export_equals_its_source_in_every_mode(exported: tuple[str, Bundle]) -> None:
    _, bundle = exported
    parity = bundle.manifest.parity
    assert parity is not None
    assert len(parity.modes) == 5
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
    assert min(mode.kendall_tau for mode in parity.modes) >= 0.999


def test_tensorrt_builds_every_graph_of_it(exported: tuple[str, Bundle], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed", exc_type=ImportError)
    family, bundle = exported
    if FACTOR == 1 and family not in BUILT:
        pytest.skip("a build of seconds: make test-full")
    if family in EXPERTS:
        bundle = export_family(family, tmp_path, target="tensorrt")
    architecture = DEFAULT_TARGETS[list(FAMILIES).index(family) % len(DEFAULT_TARGETS)]
    target = BuildTarget.parse(f"tensorrt-rtx:{architecture}")
    plans = build_plans(bundle, target, limits=ProfileLimits(64, max_prefixes=2))
    assert {one.plan.record.key.graph for one in plans} == {graph.file for graph in bundle.manifest.graphs}
    for one in plans:
        profiles = one.plan.record.key.profiles
        assert {profile.name.split("-")[0] for profile in profiles} == {"latency", "throughput"}
        assert {profile.axes["past"].min for profile in profiles} == {0}


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "own attention code": (
        "falcon",
        {"alibi": False},
        "FalconAttention of FalconForCausalLM attends by code of its own",
    ),
    "positions counted in the pass": ("bart", {}, "it takes no position_ids"),
    "a mask of its own": ("doge", {}, "DogeAttention makes a mask of its own"),
    "both directions": ("bert", {}, "BertSelfAttention reads a text in both directions"),
    "recurrent": ("mamba", {}, "MambaForCausalLM has recurrent layers alone"),
    "recurrent by a rule of its own": (
        "minimax",
        {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2},
        r"layers \[0\] \(linear_attention.*MiniMaxLightningAttention",
    ),
    "without attention": (
        "lfm2",
        {"layer_types": ["conv", "conv"]},
        "Lfm2ForCausalLM has recurrent layers alone",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_misfit_is_refused_with_the_reason(reason: str, tmp_path: Path) -> None:
    model_type, overrides, message = REFUSED[reason]
    checkpoint = checkpoints.causal_lm(tmp_path / "checkpoint", model_type, **overrides)
    with pytest.raises(CheckpointError, match=message):
        export(checkpoint, tmp_path / "bundle", kind="ranker", label_ids=(9, 17))
    assert not (tmp_path / "bundle").exists()
