"""Skeletons of the GPU benchmark: completed, they are the exported bundle to the byte."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from benchmarks.gpu.workload.shapes import TINY
from benchmarks.gpu.workload.skeletons import BUNDLE_FOLDER, RECIPE_FILE, Edges, restore, write_skeleton
from benchmarks.gpu.workload.weights import (
    CheckpointWeights,
    RandomWeights,
    parameter,
    save_checkpoint,
    stored,
)
from rankport.exporters.export import export
from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle

SHAPE = TINY.workloads[1].model


@pytest.fixture(scope="module")
def bundle(traces: object, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("gpu")
    checkpoint = save_checkpoint(folder / "checkpoint", SHAPE)
    return export(
        checkpoint,
        folder / "slm.bundle",
        kind="ranker",
        label_ids=(5, 9),
        max_prefix_tokens=16,
        max_item_tokens=16,
    )


def test_a_completed_skeleton_is_the_exported_bundle(bundle: Bundle, tmp_path: Path) -> None:
    skeleton = write_skeleton(bundle.path, RandomWeights(SHAPE.parameters()), tmp_path / "skeleton")
    assert not (skeleton / BUNDLE_FOLDER / "weights.bin").exists()
    with pytest.raises(BundleError):
        open_bundle(skeleton / BUNDLE_FOLDER)
    whole = open_bundle(restore(skeleton, tmp_path / "whole", workers=2))
    assert whole.manifest == bundle.manifest
    prefix, items = [3, 4, 5], [[6, 7], [8], [9, 10, 11]]
    with Ranker.load(bundle) as exported, Ranker.load(whole) as completed:
        expected, actual = exported.score(prefix, items), completed.score(prefix, items)
    assert np.array_equal(expected.logits, actual.logits)


def test_a_skeleton_of_a_checkpoint_needs_nothing_but_the_checkpoint(bundle: Bundle, tmp_path: Path) -> None:
    weights = CheckpointWeights(bundle.path.parent / "checkpoint")
    skeleton = write_skeleton(bundle.path, weights, tmp_path / "skeleton")
    assert open_bundle(restore(skeleton, tmp_path / "whole", workers=1)).manifest == bundle.manifest


def test_query_heads_that_an_export_for_cuda_has_put_by_group_are_put_so_again(
    bundle: Bundle, tmp_path: Path
) -> None:
    limits = {"max_prefix_tokens": 16, "max_item_tokens": 16}
    options = {"kind": "ranker", "label_ids": (5, 9), "target": "onnx-cuda", **limits}
    made = export(bundle.path.parent / "checkpoint", tmp_path / "cuda.bundle", **options)
    skeleton = write_skeleton(made.path, RandomWeights(SHAPE.parameters()), tmp_path / "skeleton")
    tensors = json.loads((skeleton / RECIPE_FILE).read_text())["tensors"]
    moved = {part["parameter"]: part["by_group"] for tensor in tensors for part in tensor["parts"]}
    for layer in range(SHAPE.layers):
        for name in ("q_proj", "o_proj"):
            assert moved[f"model.layers.{layer}.self_attn.{name}.weight"] == [2, 2, 32]
    assert open_bundle(restore(skeleton, tmp_path / "whole", workers=1)).manifest == made.manifest


@pytest.mark.parametrize("bits", [0x3F80_7FFF, 0x3F80_8000, 0x3F81_8000, 0x3F80_8001])
def test_checkpoint_weights_round_to_nearest_even(bits: int, tmp_path: Path) -> None:
    values = np.array([[bits]], np.uint32).view(np.float32)
    save_file({"w": values}, tmp_path / "model.safetensors")
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(CheckpointWeights(tmp_path).stored("w", (1, 1), "bfloat16"), expected)


def test_a_skeleton_keeps_only_small_tables_as_they_are(bundle: Bundle, tmp_path: Path) -> None:
    skeleton = write_skeleton(bundle.path, RandomWeights(SHAPE.parameters()), tmp_path / "skeleton")
    assert sum(file.stat().st_size for file in skeleton.rglob("*.json")) < 100_000


def test_weights_of_another_model_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    import benchmarks.gpu.workload.skeletons as skeletons

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skeletons, "MAX_INLINE_BYTES", 10_000)
        with pytest.raises(ValueError, match="no parameters"):
            write_skeleton(bundle.path, RandomWeights({"other": (64, 64)}), tmp_path / "skeleton")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_form_holds_the_same_weights(dtype: str) -> None:
    values = parameter("some.weight", (32, 48))
    assert values.std() == pytest.approx(0.036, rel=0.05)
    bits = stored("some.weight", (32, 48), dtype)  # type: ignore[arg-type]
    if dtype == "bfloat16":
        bits = (bits.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(bits.astype(np.float32), values)


def test_weights_never_change() -> None:
    assert parameter("some.weight", (2, 2)).tolist() == [
        [0.045166015625, 0.050048828125],
        [0.049560546875, -0.039306640625],
    ]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("transposed", [False, True])
def test_fused_matrices_are_taken_apart(axis: int, transposed: bool) -> None:
    names = (
        {"q": (32, 16), "k": (8, 16), "v": (8, 16)}
        if axis == int(transposed)
        else {"q": (16, 32), "k": (16, 8)}
    )
    arrays = [stored(name, shape, "bfloat16") for name, shape in names.items()]
    fused = np.concatenate([a.T if transposed else a for a in arrays], axis)
    found_axis, parts = Edges(RandomWeights(names)).match("bfloat16", fused)
    assert found_axis == axis
    assert [(part.parameter, part.transposed) for part in parts] == [(name, transposed) for name in names]


def test_matrices_that_begin_alike_are_told_apart_by_all_their_values(tmp_path: Path) -> None:
    pruned = np.zeros((4, 3), np.float32)
    trained = pruned.copy()
    trained[3, 2] = 0.5
    save_file({"a": pruned, "b": trained}, tmp_path / "model.safetensors")
    edges = Edges(CheckpointWeights(tmp_path))
    assert [part.parameter for part in edges.match("float32", trained)[1]] == ["b"]
    assert [part.parameter for part in edges.match("float32", pruned)[1]] == ["a"]
    assert edges.match("float32", trained + 1) == (0, ())
