"""The examples of classifiers: what they read, what they write, and under full effort their figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from examples.esco.dataset import Dataset
from examples.esco.minilm import PACKAGE
from examples.fit.dataset import LEVELS, fit_pairs
from examples.fit.run import figures
from examples.intent.checkpoint import logits_of, mean_states, save_classifier
from examples.intent.dataset import IntentTexts, read_banking77, read_snips
from examples.intent.training import Recipe, train_head
from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.classifier.head import resolve_head
from rankport.exporters.kinds.classifier.proof.reference import head_reference
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from support import sentence_folders
from support.effort import full_effort_with

FULL = full_effort_with(PACKAGE)


def test_the_sets_are_read_whole() -> None:
    sizes = {
        "snips": (read_snips("train"), read_snips("test")),
        "banking77": (read_banking77("train"), read_banking77("test")),
    }
    assert {name: [len(part) for part in parts] for name, parts in sizes.items()} == {
        "snips": [13_287, 695],
        "banking77": [10_003, 3_080],
    }
    assert [len(set(parts[0].intents)) for parts in sizes.values()] == [7, 77]


def test_fit_learns_of_the_training_split_alone() -> None:
    dataset = Dataset.load()
    test = fit_pairs(dataset, "test")
    assert (len(test.levels), round(test.majority, 4)) == (2_400, 0.6967)
    every, some = fit_pairs(dataset, "train"), fit_pairs(dataset, "train", 12)
    assert set(some.jobs).isdisjoint(test.jobs)
    assert len(some.levels) == 12 / 20 * len(every.levels)
    for level in range(len(LEVELS)):  # in their own shares
        shares = [pairs.levels.count(level) / len(pairs.levels) for pairs in (every, some)]
        assert shares[1] == pytest.approx(shares[0], abs=0.01)
    assert all(text.startswith("Worked as ") for text in some.candidates)


def test_a_head_is_fitted_to_states() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 16)) * 3
    places = rng.integers(0, 3, 600)
    states = torch.tensor(centres[places] + rng.standard_normal((600, 16)), dtype=torch.float32)
    head = train_head(states, IntentTexts([""] * 600, [f"i{place}" for place in places]), Recipe(epochs=3))
    assert head.intents == ("i0", "i1", "i2")
    assert np.mean([ours == f"i{own}" for ours, own in zip(head.predict(states), places, strict=True)]) > 0.98


def test_what_is_saved_is_a_classifier_of_the_same_logits(tmp_path: Path) -> None:
    base = sentence_folders.bert(tmp_path / "base")
    body = AutoModel.from_pretrained(base, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    layers = [(nn.Linear(32, 8), nn.ReLU()), (nn.Linear(8, 3), nn.Identity())]
    folder = save_classifier(body, tokenizer, layers, LEVELS, 24, tmp_path / "c")
    source = load_checkpoint(folder, head="stated")
    labels, head = resolve_head(source, None)
    assert (labels.names, head.pooling, len(head.dense)) == (list(LEVELS), "mean", 2)
    encoded = tokenizer("cook a b", return_tensors="pt")
    with torch.no_grad():
        expected = logits_of(layers, mean_states(body, encoded)).numpy()
    made = head_reference(source, head, 3).logits([PairIds(encoded["input_ids"][0].numpy(), None)])
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_figures_of_levels() -> None:
    told = figures([0, 0, 1, 2], [0, 1, 1, 2])
    assert told["accuracy"] == 0.75
    assert told["f1"] == {"low": pytest.approx(2 / 3), "medium": pytest.approx(2 / 3), "high": 1.0}


@FULL
def test_intents_reach_their_accuracy(tmp_path: Path) -> None:
    report = _run("examples.intent.run", tmp_path)
    assert report["snips"]["accuracy_bundle"] >= 0.97
    assert report["banking77"]["accuracy_bundle"] >= 0.92
    assert max(report[name]["otherwise_than_checkpoint"] for name in ("snips", "banking77")) <= 3


@FULL
def test_fit_is_told_by_the_bundle_as_by_its_checkpoint(tmp_path: Path) -> None:
    report = _run("examples.fit.run", tmp_path)
    assert abs(report["bundle"]["accuracy"] - report["checkpoint"]["accuracy"]) <= 0.001


def _run(module: str, out: Path) -> dict[str, dict[str, float]]:
    subprocess.run(
        [sys.executable, "-m", module, "--out", str(out)], check=True, cwd=Path(__file__).parents[2]
    )
    report: dict[str, dict[str, float]] = json.loads((out / "report.json").read_text())
    return report
