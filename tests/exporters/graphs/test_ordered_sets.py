"""Graphs have the same bytes whatever order Python's sets of texts have in a process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers.models.olmo3 import modeling_olmo3

from rankport.exporters.graphs.ordered_sets import sets_in_order
from support import checkpoints
from support.effort import full_effort

NAMES = [f"{letter}_attention" for letter in "hgfedcba"]


class Layers(nn.Module):
    """Walks kinds of layers as Olmo 3 and Gemma 4 do: in the order of a set made then, and of one that it keeps."""

    __module__ = modeling_olmo3.__name__

    def __init__(self) -> None:
        super().__init__()
        self.kept = set(NAMES)

    def made(self) -> list[str]:
        return list(modeling_olmo3.__dict__.get("set", set)(NAMES))


def test_sets_that_a_model_makes_or_keeps_have_one_order_while_it_is_traced() -> None:
    layers = Layers()
    kept = layers.kept
    with sets_in_order(layers):
        assert layers.made() == list(layers.kept) == sorted(NAMES)
        assert isinstance(layers.kept, set)
        assert layers.kept == set(NAMES)
    assert layers.kept is kept
    assert "set" not in vars(modeling_olmo3)


_EXPORT = """
import sys
from rankport.exporters.export import export
for folder in sys.argv[2:]:
    bundle = export(folder, f"{folder}-{sys.argv[1]}", kind="ranker", label_ids=(9, 17), max_prefix_tokens=40,
                    max_item_tokens=24)
    print(bundle.manifest.fingerprint)
"""

FAMILIES: dict[str, dict[str, Any]] = {
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16},
    "olmo3": {},
    "cohere_compass_text": {  # which keeps such a set as a list, and makes buffers in its order
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": theta, "mrope_section": [2, 1, 1]}
            for kind, theta in (("sliding_attention", 1e4), ("full_attention", 1e6))
        }
    },
}


@full_effort
def test_exports_under_two_hash_seeds_have_the_same_bytes(tmp_path: Path) -> None:
    folders = [
        checkpoints.causal_lm(
            tmp_path / family,
            family,
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention"],
            **config,
        )
        for family, config in FAMILIES.items()
    ]
    # Between these two the order of the two kinds of layers differs.
    orders = {
        seed: _run(seed, "-c", f"print(list(set({['sliding_attention', 'full_attention']})))")
        for seed in "01"
    }
    assert orders["0"] != orders["1"]
    first, second = (_run(seed, "-c", _EXPORT, seed, *map(str, folders)) for seed in "01")
    assert first == second


def _run(seed: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout
