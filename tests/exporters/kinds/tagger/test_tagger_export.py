"""Taggers from checkpoint to spans: proven, opened, verified and tagging as transformers does."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForTokenClassification

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.tagger.options import TaggerOptions
from rankport.exporters.kinds.tagger.plan import tagger_limits
from rankport.exporters.kinds.tagger.proof.texts import of_shorter_windows
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.tagger.tagger import Tagger
from support import sentence_folders
from support.reading.taggers import NAMES, random_crf, tagger_checkpoint, write_crf

TEXTS = ["sushi in New York, please!", "👩‍🍳 cooks 🍣 in İzmir", "", "the café of Ghent " * 9]
ONE_THREAD = EngineConfig(threads=1)
OPTIONS = {"max_item_tokens": 24}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tagger_checkpoint(tmp_path_factory.mktemp("tagger"))


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(checkpoint, name="tagger", **OPTIONS)


def modes_of(bundle: Bundle) -> dict[str, int]:
    assert bundle.manifest.parity is not None
    assert all(map(bundle.manifest.parity.holds, bundle.manifest.parity.modes))
    return {mode.mode: mode.items for mode in bundle.manifest.parity.modes}


def test_its_kind_is_claimed_and_every_mode_is_proven(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.kind == "tagger"
    assert manifest.tagging is not None
    assert (manifest.tagging.scheme, manifest.tagging.unit, manifest.tagging.crf) == ("BIO", "word", None)
    assert manifest.labels is not None
    assert manifest.labels.names == list(NAMES)
    modes = modes_of(bundle)
    assert list(modes) == ["one_item", "batch", "spans", "words", "windows", "pipeline"]
    assert modes["spans"] >= 25
    assert modes["pipeline"] >= 8


def test_the_longest_text_of_an_adapter_without_a_tokenizer_is_what_its_bases_says(tmp_path: Path) -> None:
    base = tagger_checkpoint(tmp_path / "base")
    sentence_folders.change(base, "tokenizer_config.json", model_max_length=20)
    model = AutoModelForTokenClassification.from_pretrained(base)
    config = LoraConfig(task_type="TOKEN_CLS", target_modules=["query"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what peft asks transformers
        get_peft_model(model, config).save_pretrained(str(tmp_path / "adapter"))
    source = load_checkpoint(tmp_path / "adapter", base=base)
    assert tagger_limits(source, TaggerOptions()).max_item_tokens == 20


def test_windows_that_a_proof_runs_are_no_longer_than_it_can(bundle: Bundle) -> None:
    assert of_shorter_windows(bundle) == bundle
    limits = bundle.manifest.limits.model_copy(update={"max_item_tokens": 40_960})
    long = replace(bundle, manifest=bundle.manifest.model_copy(update={"limits": limits}))
    shorter = of_shorter_windows(long)
    assert shorter.manifest.limits.max_item_tokens == 2048
    with Tagger.load(shorter, config=ONE_THREAD) as tagger:
        tagger.tag(["sushi in Ghent"])


def test_verify_proves_it_again(bundle: Bundle, checkpoint: Path) -> None:
    verdict = verify(bundle.path, checkpoint)
    assert verdict.failures == ()
    assert verdict.proof.parity == bundle.manifest.parity


def test_it_tags_as_the_pipeline_of_transformers(bundle: Bundle, checkpoint: Path) -> None:
    import transformers

    pipeline = transformers.pipeline(
        "token-classification",
        model=str(checkpoint),
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json")),
        aggregation_strategy="first",
        device="cpu",
    )
    text = "the sushi in New York is on the table, please!"
    with Tagger.load(bundle, config=ONE_THREAD) as tagger:
        spans = tagger.tag([text], truncation="windows").spans(0)
    expected = pipeline(text)
    assert [(s.start, s.end, s.label) for s in spans] == [
        (own["start"], own["end"], own["entity_group"]) for own in expected
    ]
    np.testing.assert_allclose([s.score for s in spans], [own["score"] for own in expected], atol=1e-5)


@pytest.mark.parametrize(
    ("names", "labels", "stated"),
    [
        (NAMES, NAMES, {"kind": "linear-chain", "unit": "word"}),
        (NAMES, ("O", "city", "food"), {"kind": "semi-markov", "unit": "token", "max_segment": 3}),
    ],
    ids=["linear-chain", "semi-markov"],
)
def test_a_crf_decodes_as_its_definition(
    checkpoint: Path,
    tmp_path: Path,
    names: tuple[str, ...],
    labels: tuple[str, ...],
    stated: dict[str, object],
) -> None:
    """The graph is that of the plain tagger; the proof decodes in torch, by gradients of the sum over paths."""
    folder = tagger_checkpoint(tmp_path / "checkpoint")
    most = stated.get("max_segment")
    assert most is None or isinstance(most, int)
    write_crf(folder, random_crf(labels, most), labels=list(labels), **stated)
    bundle = export(folder, tmp_path / "bundle", **OPTIONS)
    assert list(modes_of(bundle)) == ["one_item", "batch", "spans", "words", "windows"]
    tagging = bundle.manifest.tagging
    assert tagging is not None
    assert tagging.crf is not None
    assert (tagging.crf.kind, tagging.unit) == (stated["kind"], stated["unit"])
    plain, other = (Tagger.load(each, config=ONE_THREAD) for each in (bundle, bundle.path))
    with plain, other:
        assert plain.tag(TEXTS, truncation="windows").spans(0) == other.tag(
            TEXTS, truncation="windows"
        ).spans(0)


def test_the_crf_counts_as_part_of_checkpoint_and_bundle(checkpoint: Path, tmp_path: Path) -> None:
    from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256

    folder = tagger_checkpoint(tmp_path / "checkpoint")
    hashes = [checkpoint_sha256(folder)]
    for seed, unit in ((0, "word"), (1, "word"), (1, "token")):
        write_crf(folder, random_crf(NAMES, seed=seed), kind="linear-chain", labels=list(NAMES), unit=unit)
        hashes.append(checkpoint_sha256(folder))
    assert len(set(hashes)) == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("LABEL_0", "LABEL_1"), "id2label: 'LABEL_0' says nothing"),
        (("O", "B-a", "X"), "id2label: 'X' is neither O nor prefixed"),
        (("O", "B-a", "B-a"), "id2label names several outputs 'B-a'"),
    ],
)
def test_labels_of_no_scheme_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        export(tagger_checkpoint(tmp_path / "checkpoint", names), tmp_path / "bundle")


def test_a_tagger_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tagger_checkpoint(tmp_path / "checkpoint")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json: a tagger tells places in texts"):
        export(folder, tmp_path / "bundle")


def test_another_head_is_refused(encoder_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no class with a head that answers"):
        export(encoder_checkpoint, tmp_path / "bundle", kind="tagger")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ('[[prefix]]\nfield = "q"\n[[item]]\nitem = true\n', "a tagger has no prefix"),
        (
            '[[item]]\ntext = "find "\n[[item]]\nitem = true\njoined = true\n',
            "tokenized by itself: leave joined out",
        ),
        ('labels = ["a"]\n[[item]]\nitem = true\n', "labels are those of the checkpoint's config.json"),
    ],
)
def test_a_prompt_that_moves_places_is_refused(
    checkpoint: Path, tmp_path: Path, prompt: str, message: str
) -> None:
    (tmp_path / "prompt.toml").write_text(prompt)
    with pytest.raises(InvalidRequest, match=message):
        export(checkpoint, tmp_path / "bundle", prompt=tmp_path / "prompt.toml")
