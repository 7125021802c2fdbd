"""A decoder whose last state goes through Dense layers to levels: it shares a prefix, and answers as its owner's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.classifier.prompt import classifier_prompt
from rankport.exporters.kinds.labels.pooled_head import pooled_head
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.ranker.ranker import Ranker
from support import checkpoints, sentence_folders
from support.forms import adapters
from support.reading.class_folders import LEVELS, pooled_levels

JOB = "senior software engineer"
CANDIDATES = ["data engineer of the machine", "cook", "junior nurse and pilot"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fit")
    base = checkpoints.body(place / "base", "qwen3", tokenizer=True, num_hidden_layers=1)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    sentence_folders.write(
        base, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    )
    return pooled_levels(base, place / "fit", "lasttoken")


@pytest.fixture(scope="module")
def bundle(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder, kind="ranker", positive="high", max_prefix_tokens=24, max_item_tokens=16)


def by_library(folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    rows: np.ndarray = model.encode([f"{JOB} {candidate}" for candidate in CANDIDATES], batch_size=1)
    return rows


def test_levels_of_candidates_behind_a_shared_job_are_those_of_whole_sequences(
    bundle: Bundle, folder: Path
) -> None:
    expected = by_library(folder)
    with Ranker.load(bundle) as ranker:
        first = ranker.score(JOB, CANDIDATES)
        np.testing.assert_allclose(first.logits, expected, atol=1e-5)
        assert first.read_out == "softmax over low, medium, high: high"
        again = ranker.score(JOB, CANDIDATES[:1])
        assert (again.usage.prefix_tokens_cached, again.usage.prefix_tokens_computed) == (4, 0)
    shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    with Classifier.load(bundle) as classifier:
        result = classifier.classify(CANDIDATES, prefix=JOB)
        assert result.labels == LEVELS
        np.testing.assert_allclose(result.probabilities, shares, atol=1e-5)


def test_its_bundle_says_what_lies_behind_the_last_state(bundle: Bundle) -> None:
    head = bundle.manifest.head
    assert head is not None
    assert (head.exclusive, head.pooling) == (True, "last-k")
    assert [(layer.in_features, layer.out_features, layer.activation) for layer in head.dense] == [
        (32, 16, "relu"),
        (16, 3, "identity"),
    ]
    assert bundle.manifest.parity is not None
    assert max(mode.max_abs_error for mode in bundle.manifest.parity.modes) <= 1e-5


def test_an_adapter_in_such_a_folder_answers_by_its_levels(tmp_path: Path) -> None:
    base = checkpoints.body(tmp_path / "base", "qwen3", num_hidden_layers=1)
    adapter = adapters.lora(tmp_path / "adapter", base, kind="body", target_modules=["q_proj"]).folder
    folder = pooled_levels(adapter, tmp_path / "fit", "lasttoken")
    source = load_checkpoint(folder, base=base, head="none")
    assert pooled_head(source, named=False)[0] == LEVELS
    sentence_folders.change(folder, "config_sentence_transformers.json", labels=None)
    sentence_folders.change(base, "config.json", id2label={"0": "bad", "1": "good", "2": "best"})
    assert pooled_head(source, named=False)[0] == ("bad", "good", "best")


def test_what_is_neither_the_last_state_nor_an_average_is_sent_to_whole_sequences(tmp_path: Path) -> None:
    base = checkpoints.body(tmp_path / "base", "qwen3", tokenizer=True, num_hidden_layers=1)
    folder = pooled_levels(base, tmp_path / "fit", "max")
    with pytest.raises(CheckpointError, match=r"pools by max, .*--kind classifier reads whole sequences"):
        export(folder, tmp_path / "b", kind="ranker", positive="high")


def test_a_body_that_reads_both_ways_shares_no_prefix(tmp_path: Path) -> None:
    base = checkpoints.body(tmp_path / "base", "bert", tokenizer=True, num_hidden_layers=1)
    folder = pooled_levels(base, tmp_path / "fit", "lasttoken")
    with pytest.raises(CheckpointError, match="reads a text in both directions"):
        export(folder, tmp_path / "b", kind="ranker", positive="high")


def test_labels_and_prompts_that_the_folder_states_are_not_overruled_in_silence(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=r"answers by its Dense layers, .* leave --labels out"):
        export(folder, tmp_path / "b", kind="ranker", labels=("yes", "no"))
    base = checkpoints.body(tmp_path / "base", "qwen3", tokenizer=True, num_hidden_layers=1)
    prompted = {"prompts": {"fit": "item"}, "default_prompt_name": "fit"}
    asking = pooled_levels(base, tmp_path / "fit", "lasttoken", **prompted)
    with pytest.raises(InvalidRequest, match="puts 'item' before each text"):
        export(asking, tmp_path / "b", kind="ranker", positive="high")


def test_a_classifier_of_the_same_folder_reads_whole_sequences_and_says_so(folder: Path) -> None:
    source = load_checkpoint(folder, head="stated")
    assert classifier_prompt(source, ClassifierOptions()).notes == (
        "whole sequences: a decoder that is read at its last token can share a prefix among texts: --kind ranker",
    )
