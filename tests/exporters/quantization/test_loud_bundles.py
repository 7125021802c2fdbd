"""Bundles with loud columns: what manifests say, how near they are, and `verify` of new ones and of old ones."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from rankport.exporters.export import export
from rankport.exporters.quantization.recipes import RECIPES
from rankport.exporters.verify import verify
from rankport.runtime.bundle.bundle import Bundle
from support.reading.class_folders import level_classifier

LOUD = 7


def classifier_with_an_outlier(folder: Path) -> Path:
    """One layer, all of whose tokens' states have a loud column; the pooler's has none."""
    checkpoint = level_classifier(folder)
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["bert.embeddings.LayerNorm.weight"][LOUD] = 40.0
    tensors["bert.encoder.layer.0.attention.output.LayerNorm.weight"][LOUD] = 10.0
    tensors["bert.encoder.layer.0.output.LayerNorm.weight"][LOUD] = 0.1
    save_file(tensors, file, {"format": "pt"})
    return checkpoint


def drift_of(bundle: Bundle) -> float:
    assert bundle.manifest.drift is not None
    error = next(mode.relative_error for mode in bundle.manifest.drift if mode.mode == "one_item")
    assert error is not None
    return error


def stated_of(bundle: Bundle) -> dict[str, int]:
    assert bundle.manifest.quantization is not None
    parts = bundle.manifest.quantization.parts
    return {part.activations: part.layers for part in parts if part.part == "linear"}


def test_a_bundle_says_its_loud_columns_is_nearer_and_verified_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = classifier_with_an_outlier(tmp_path / "c")
    with monkeypatch.context() as earlier:
        earlier.setitem(RECIPES, "int8", replace(RECIPES["int8"], loud=0))
        old = export(checkpoint, tmp_path / "old", kind="classifier", quantize="int8")
    new = export(checkpoint, tmp_path / "new", kind="classifier", quantize="int8")
    layers = sum(stated_of(old).values())
    assert stated_of(old) == {"int8 per token": layers}
    loud = stated_of(new)["int8 per token, 4 loud columns in fp32"]
    assert 4 <= loud < layers == sum(stated_of(new).values())
    assert drift_of(new) < 0.8 * drift_of(old)
    for bundle in (old, new):
        verdict = verify(bundle.path, checkpoint)
        assert verdict.failures == ()
        assert max(mode.relative_error or 0 for mode in verdict.proof.parity.modes) < 0.3 * drift_of(new)
