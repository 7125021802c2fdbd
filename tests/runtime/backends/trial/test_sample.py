"""The ranker that ships with the package: it is a bundle as any other, and torch's numbers are its own."""

import json

import numpy as np

from rankport.runtime.backends.trial.devices import MAX_FP32, MAX_TF32, cpu_difference
from rankport.runtime.backends.trial.sample import ANSWERS, BUNDLE, FOLDER, sample_tokens, torch_logits
from rankport.runtime.kinds.table import open_bundle


def test_it_is_a_bundle_for_a_cpu_and_a_gpu_in_fp32() -> None:
    manifest = open_bundle(FOLDER / BUNDLE).manifest
    assert (manifest.kind, manifest.targets, manifest.precision) == (
        "ranker",
        ("onnx-cpu", "onnx-cuda"),
        "fp32",
    )
    prefix, items = sample_tokens()
    assert len(prefix) <= manifest.limits.max_prefix_tokens
    assert max(map(len, items)) <= manifest.limits.max_item_tokens
    assert len(torch_logits()) == len(items) == 8


def test_onnxruntime_on_the_cpu_gives_torchs_logits() -> None:
    found, limit = cpu_difference()
    assert found.largest < 1e-5 < limit
    assert found.scale > 1  # what a device leaves out is seen


def test_the_limit_of_tf32_is_above_what_rounding_to_it_does_and_that_of_fp32_below() -> None:
    rounded = json.loads((FOLDER / ANSWERS).read_text())["logits_in_tf32"]
    apart = float(np.abs(np.array(rounded) - torch_logits()).max())
    assert MAX_FP32 < apart < MAX_TF32 < 3 * apart
