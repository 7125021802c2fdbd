"""Layers see as far back as their windows say, in prefills and in passes of items: in torch, before there is a graph.

The reference is transformers' own forward of each whole sequence. What a graph adds, `ranker/test_windows.py` proves.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.decoders.module import PackedDecoder, RowDecoder, shared_prefix_mode
from rankport.exporters.kinds.decoders.survey import survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import pack
from rankport.runtime.backends.layouts.rectangle import rectangle
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.tokens import TokenRun
from support import checkpoints

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


@dataclass(frozen=True)
class Past:
    """Piece of what a prefix keeps, as one of `PrefixBatch`."""

    kv: list[Tensor]  # [kv_heads, tokens, width] by layer, key and value

    @property
    def length(self) -> int:
        return self.kv[0].shape[1]


def passed(
    module: PackedDecoder | RowDecoder, prefixes: list[list[Past]], runs: list[list[list[int]]]
) -> tuple[Tensor, list[Past]]:
    """Runs one pass: logits of all runs, and what it adds to each prefix that has one run."""
    owner = np.repeat(np.arange(len(prefixes)), [len(of_prefix) for of_prefix in runs])
    flat = [TokenRun(np.array(run)) for of_prefix in runs for run in of_prefix]
    batch = PrefixBatch.of(tuple(map(tuple, prefixes)), flat, owner)  # type: ignore[arg-type]
    lay_out = pack if isinstance(module, PackedDecoder) else rectangle
    layout = lay_out(batch, EmbeddingsForm(1))
    sizes = layout.rounded_sizes()
    arrays = {name: torch.tensor(part.array()) for name, part in layout.inputs(sizes).items()}
    wanted = {"input_ids", "position_ids", "last_tokens"}
    wanted |= {"slots", "token_slots", "past_lengths"} if lay_out is pack else {"past_mask", "own_mask"}
    with torch.no_grad():
        logits, *new = module(
            **{name: arrays[name] for name in wanted},
            past=_past(module, prefixes, sizes.prefixes, sizes.past),
        )
    lengths = [len(of_prefix[0]) for of_prefix in runs]
    added = [Past([states[place, :, :length] for states in new]) for place, length in enumerate(lengths)]
    return logits[: len(flat)], added


def _past(
    module: PackedDecoder | RowDecoder, prefixes: list[list[Past]], count: int, room: int
) -> list[Tensor]:
    result = []
    config: Any = module.model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for place in range(2 * config.num_hidden_layers):
        # What lies where no token is must not matter.
        past = torch.full((count, config.num_key_value_heads, room, width), 3.0)
        for row, pieces in enumerate(prefixes):
            if pieces:
                kept = torch.cat([piece.kv[place] for piece in pieces], 1)
                past[row, :, : kept.shape[1]] = kept
        result.append(past)
    return result


def random_ids(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [
        torch.randint(3, checkpoints.VOCABULARY, (length,), generator=generator).tolist()
        for length in lengths
    ]


CASES = [(family, 8) for family in FAMILIES] + [
    (family, window) for window in (4, 16) for family in ALL_WINDOWS
]


@pytest.mark.parametrize(("family", "window"), CASES)
def test_every_layout_sees_as_far_as_transformers_does(family: str, window: int, tmp_path: Path) -> None:
    config = FAMILIES[family] | {"sliding_window": window}
    model = load_checkpoint(checkpoints.causal_lm(tmp_path / "c", family, **config)).model
    prefixes, items = random_ids(*PREFIXES), [*([random_ids(*ITEMS[1:])] * 3), random_ids(*ITEMS * 3)]
    labels = (9, 17, 40)
    with torch.no_grad():
        expected = torch.stack(
            [
                model(torch.tensor([prefix + item])).logits[0, -1, list(labels)]
                for prefix, of_prefix in zip(prefixes, items, strict=True)
                for item in of_prefix
            ]
        )
    readout = ReadOut("lm_head", labels)
    for module in (
        PackedDecoder(model, readout, embeddings=False),
        RowDecoder(model, readout, embeddings=False, fused=False),
    ):
        module.windows = survey(module).windows_within(LIMITS)
        assert set(module.windows.values()) == {window}
        for parts in (1, 3):
            past: list[list[Past]] = [[] for _ in prefixes]
            with shared_prefix_mode(module):
                for part in range(parts):
                    pieces = [
                        prefix[len(prefix) * part // parts : len(prefix) * (part + 1) // parts]
                        for prefix in prefixes
                    ]
                    there = [place for place, piece in enumerate(pieces) if piece]
                    _, added = passed(
                        module, [past[place] for place in there], [[pieces[place]] for place in there]
                    )
                    for place, piece in zip(there, added, strict=True):
                        past[place].append(piece)
                logits, _ = passed(module, past, items)
            torch.testing.assert_close(logits, expected, atol=2e-5, rtol=2e-5)
