"""Pruned checkpoints export by the one route: every mode equals the source, and KV is as wide as each layer's."""

from pathlib import Path

import torch

from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.exporters.export import export
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints
from support.forms import pruned


def exported(checkpoint: Path, out: Path) -> Bundle:
    return export(checkpoint, out, kind="ranker", label_ids=(9, 17), max_prefix_tokens=40, max_item_tokens=24)


def require_parity(bundle: Bundle) -> None:
    parity = bundle.manifest.parity
    assert parity is not None
    assert len(parity.modes) == 5
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
    assert min(mode.kendall_tau for mode in parity.modes) >= 0.999


def kv_of(bundle: Bundle) -> list[tuple[int, int]]:
    return [(layer.kv_heads, layer.head_dim) for layer in bundle.manifest.shape.layers]


def test_widths_that_differ_per_layer_reach_the_manifest_and_the_graphs(tmp_path: Path) -> None:
    source = checkpoints.causal_lm(tmp_path / "source", "qwen2", num_hidden_layers=2)
    folder = pruned.prune(source, tmp_path / "pruned", kv_heads={1: 1}, intermediate={0: 24, 1: 40})
    bundle = exported(folder, tmp_path / "bundle")
    require_parity(bundle)
    assert kv_of(bundle) == [(2, 8), (1, 8)]


def test_a_small_model_with_dropped_layers_and_half_its_neurons(tmp_path: Path) -> None:
    # Qwen3-0.6B's shape in small: 28 -> 20 layers, feed-forward 3,072 -> 1,536, head_dim above hidden / heads.
    types = ["full_attention"]
    source = checkpoints.causal_lm(
        tmp_path / "source", "qwen3", num_hidden_layers=3, head_dim=24, tie_word_embeddings=True
    )
    folder = pruned.prune(
        source,
        tmp_path / "pruned",
        layers=2,
        intermediate=dict.fromkeys(range(3), 24),
        config={"num_hidden_layers": 2, "intermediate_size": 24, "layer_types": types * 2},
    )
    bundle = exported(folder, tmp_path / "bundle")
    require_parity(bundle)
    assert kv_of(bundle) == [(2, 24)] * 2
    assert bundle.manifest.source.parameters == parameters(folder)


def parameters(folder: Path) -> int:
    stored = StoredTensors.open(folder)
    return sum(torch.Size(stored.shape(name)).numel() for name in stored)
