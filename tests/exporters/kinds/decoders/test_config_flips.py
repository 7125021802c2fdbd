"""A decoder whose config has any one field changed computes what transformers does, or is refused: before any graph.

The reference is the model in memory, which was never stored; what a graph adds, the proof of each export compares.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.decoders.module import PackedDecoder, RowDecoder
from rankport.exporters.kinds.decoders.survey import survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Limits
from support import checkpoints
from support.config_flips import Fields, flips
from support.decoder_passes import Passes, expected_logits, random_ids
from support.effort import every_run

LIMITS = Limits(max_prefix_tokens=40, max_item_tokens=24)
LABELS = (9, 17, 40)
PREFIXES, ITEMS = random_ids(0, 3, 30), [random_ids(2, 19), random_ids(2, 19), random_ids(1, 5, 19)]

MIXED: Fields = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
GEMMA: Fields = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16}
MOE: Fields = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED: Fields = MOE | {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
LATENT: Fields = (
    ROUTED
    | {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12}
    | {
        "num_key_value_heads": 4,
        "kv_lora_rank": 16,
        "q_lora_rank": 24,
        "n_group": 2,
        "topk_group": 1,
    }
)
LOCAL: Fields = {"num_local_experts": 4, "num_experts_per_tok": 2}
GPT: Fields = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128}

ALIKE: dict[tuple[str, ...], Fields] = {
    ("apertus", "arcee", "bitnet", "cohere", "llama", "granite", "nemotron", "olmo2"): {},
    ("gpt_neox", "mistral", "opt", "phi", "phi3", "qwen2", "stablelm"): {},
    ("ernie4_5", "glm", "glm4", "helium", "nanochat", "qwen3", "seed_oss"): {"head_dim": 8},
    ("gpt2", "gpt_bigcode"): GPT,
    ("granitemoe", "mixtral", "phimoe"): LOCAL,
    ("deepseek_v2", "deepseek_v3"): LATENT,
    ("dots1", "glm4_moe"): ROUTED | {"head_dim": 8},
    ("cohere2", "exaone4", "olmo3"): MIXED,
    ("gemma2", "vaultgemma"): GEMMA,
}
FAMILIES: dict[str, Fields] = {
    **{family: fields for families, fields in ALIKE.items() for family in families},
    "gemma": {"head_dim": 16},
    "gemma3_text": GEMMA | MIXED,
    "gpt_oss": LOCAL | MIXED | {"head_dim": 8},
    "qwen3_moe": MOE | {"num_experts": 4, "head_dim": 8},
    "smollm3": {"no_rope_layers": [1, 0]},
}


@pytest.mark.parametrize("family", every_run(FAMILIES, {"granite"}))
def test_any_field_changed_is_computed_as_by_transformers_or_refused(family: str, tmp_path: Path) -> None:
    fields = checkpoints.read_by(family) | FAMILIES[family]
    plain = torch.zeros(0)
    compared = 0
    for changed in ({}, *flips(AutoConfig.for_model(family, **fields))):
        made = run_by_transformers(family, fields | changed)
        if made is None or torch.equal(made[1], plain):
            continue  # it is none that the family takes, or it changes nothing of these texts
        model, expected = made
        plain = expected if not changed else plain
        model.save_pretrained(tmp_path)
        try:
            answers = list(answers_of(load_checkpoint(tmp_path).model))
        except CheckpointError:
            assert changed, f"{family} is refused as it is"
            continue
        compared += 1
        scale = max(1.0, expected.abs().max().item())
        for logits in answers:
            assert (logits - expected).abs().max().item() <= 5e-5 * scale, f"{family}: {changed}"
    assert compared >= 8


def run_by_transformers(family: str, fields: Fields) -> tuple[Any, torch.Tensor] | None:
    """Makes a model, of equal weights wherever fields leave them their shapes, and its logits; None of no model."""
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields)).float().eval()
        for place, weights in enumerate(model.parameters()):
            shift, scale = (1.0, 0.1) if weights.ndim == 1 else (0.0, 0.2)
            drawn = torch.randn(weights.shape, generator=torch.Generator().manual_seed(place))
            weights.data = shift + scale * drawn
        return model, expected_logits(model, PREFIXES, ITEMS)[:, list(LABELS)]
    except Exception:  # whatever transformers says of such a config
        return None


def answers_of(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Computes the logits in both layouts, of prefixes at once and in parts."""
    for module in (
        PackedDecoder(model, ReadOut("lm_head", LABELS), embeddings=False),
        RowDecoder(model, ReadOut("lm_head", LABELS), embeddings=False, fused=False),
    ):
        facts = survey(module)
        facts.check_length(LIMITS.max_prefix_tokens, LIMITS.max_item_tokens)
        module.windows = facts.windows_within(LIMITS)
        for parts in (1, 3):
            yield Passes(module, facts).logits(PREFIXES, ITEMS, parts)
