"""Layers see as far back as their windows say, in prefills and in passes of items: in torch, before there is a graph.

The reference is transformers' own forward of each whole sequence. What a graph adds, `ranker/test_windows.py` proves.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.decoders.module import PackedDecoder, RowDecoder
from rankport.exporters.kinds.decoders.survey import survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.runtime.bundle.manifest import Limits
from support import checkpoints
from support.decoder_passes import Passes, expected_logits, random_ids

LIMITS = Limits(max_prefix_tokens=40, max_item_tokens=24)
PREFIXES, ITEMS = (0, 3, 9, 30), (1, 2, 5, 8, 19)
"""Lengths: windows of 4 to 16 end in the prefix, at its end, and in the item. The last has its items three times, more
than a row of the rectangle holds."""

SLIDING, FULL = "sliding_attention", "full_attention"
MIXED: dict[str, Any] = {"layer_types": [SLIDING, FULL]}
GEMMA: dict[str, Any] = {"head_dim": 16, "query_pre_attn_scalar": 16}
LAST_LAYER: dict[str, Any] = {"use_sliding_window": True, "max_window_layers": 1}
MOE: dict[str, Any] = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
LOCAL_MOE: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 1}

FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {},
    "ministral": {**MIXED, "head_dim": 8},
    "mixtral": LOCAL_MOE,
    "starcoder2": {},
    "qwen2": LAST_LAYER,
    "qwen3": {**LAST_LAYER, "head_dim": 8},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 16, "use_sliding_window": True, **MIXED},
    "phi3": {},
    "phimoe": LOCAL_MOE | {"num_experts_per_tok": 2},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA | MIXED,
    "vaultgemma": GEMMA,
    "olmo3": MIXED,
    "cohere2": {**MIXED, "head_dim": 8},
    "exaone4": {**MIXED, "sliding_window_pattern": 2},
    "smollm3": {"use_sliding_window": True, **MIXED, "no_rope_layers": [1, 0]},
    "gpt_oss": {**LOCAL_MOE, "head_dim": 8, **MIXED},  # sinks
    "granite_swa": {},  # sinks, told by how much they take
}

ALL_WINDOWS = ("mistral", "qwen2", "gemma2")
"""In every layer, in the last one, and in every other one with soft-capping."""


CASES = [(family, 8) for family in FAMILIES] + [
    (family, window) for window in (4, 16) for family in ALL_WINDOWS
]


@pytest.mark.parametrize(("family", "window"), CASES)
def test_every_layout_sees_as_far_as_transformers_does(family: str, window: int, tmp_path: Path) -> None:
    config = FAMILIES[family] | {"sliding_window": window}
    model = load_checkpoint(checkpoints.causal_lm(tmp_path / "c", family, **config)).model
    prefixes, items = random_ids(*PREFIXES), [*([random_ids(*ITEMS[1:])] * 3), random_ids(*ITEMS * 3)]
    labels = (9, 17, 40)
    expected = expected_logits(model, prefixes, items)[:, list(labels)]
    readout = ReadOut("lm_head", labels)
    for module in (
        PackedDecoder(model, readout, embeddings=False),
        RowDecoder(model, readout, embeddings=False, fused=False),
    ):
        facts = survey(module)
        module.windows = facts.windows_within(LIMITS)
        assert set(module.windows.values()) == {window}
        for parts in (1, 3):
            logits = Passes(module, facts).logits(prefixes, items, parts)
            torch.testing.assert_close(logits, expected, atol=2e-5, rtol=2e-5)
