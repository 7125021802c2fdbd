"""A classifier from its folder to labels, in process, over gRPC and at the command line."""

import asyncio
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rankport.exporters.kinds.classifier.proof.judged import JudgedClasses
from rankport.exporters.kinds.classifier.proof.samples import sampled_texts
from rankport.exporters.kinds.texts.pairs.frame import PairTokenizer
from rankport.exporters.options.judged_texts import JudgedText
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.verify import verify
from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound, ParityError
from rankport.protos.types import ItemStatus
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.cli import rankport
from support.reading.class_folders import LEVELS, pooled_levels
from support.reading.pair_encoders import LIMIT
from support.sharing.exported import Exports

TEXTS = ["senior software engineer", "cook", "the chief machine operator of the senior pilot", "driver"]


@pytest.fixture(scope="module")
def bundle(levels: Path, exported: Exports) -> Bundle:
    return exported(levels, kind="classifier")


@pytest.fixture(scope="module")
def classifier(bundle: Bundle) -> Iterator[Classifier]:
    with Classifier.load(bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def address(classifier: Classifier) -> Iterator[str]:
    with Server({"levels": classifier.model}, ServerConfig(port=0, grace_s=5.0)) as server:
        yield server.address


def probabilities(folder: Path, texts: list[str]) -> np.ndarray:
    """What transformers gives for each text alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        rows = [
            model(**tokenizer(text, truncation=True, return_tensors="pt")).logits.softmax(-1)
            for text in texts
        ]
    made: np.ndarray = torch.cat(rows).numpy()
    return made


def test_a_text_that_a_long_limit_cuts_is_read_and_not_run(levels: Path, bundle: Bundle) -> None:
    """Attention over 40,960 tokens would take 6.7 GB a head."""
    limits = bundle.manifest.limits.model_copy(update={"max_item_tokens": 40_960})
    manifest = bundle.manifest.model_copy(update={"limits": limits})
    owner = PairTokenizer.of(levels / "tokenizer.json")
    sampled = sampled_texts(manifest, tokenizer_of(levels / "tokenizer.json"), owner, "")
    assert [part.mode for part in sampled] == ["text"]
    assert max(len(run.ids) for run in sampled[0].runs) < 4096
    with pytest.raises(
        ParityError, match=r"truncation: the text .* is 40960 tokens in the bundle and 40965 "
    ):
        sampled_texts(
            manifest, tokenizer_of(levels / "tokenizer.json"), _LaterCut(owner.inner, owner.file), ""
        )


class _LaterCut(PairTokenizer):
    """An owner that cuts five tokens later."""

    def encode_one(self, text: str, max_tokens: int) -> list[int]:
        return super().encode_one(text, max_tokens + 5)


def test_its_probabilities_are_those_of_transformers_whatever_their_length(
    classifier: Classifier, levels: Path
) -> None:
    texts = [*TEXTS, " ".join(TEXTS * 8)]
    with pytest.raises(LimitExceeded, match="item 4"):
        classifier.classify(texts)
    result = classifier.classify(texts, truncation="truncate")
    expected = probabilities(levels, texts)
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-6)
    assert result.labels == LEVELS
    assert result.exclusive
    assert result.best == tuple(LEVELS[place] for place in expected.argmax(axis=1))
    assert [status is ItemStatus.TRUNCATED for status in result.status] == [False] * 4 + [True]
    assert result.messages[4] == "text cut to the bundle's limits"
    assert result.usage.item_tokens == 5 + 3 + 10 + 3 + LIMIT


def test_the_bundle_says_what_it_reads_and_how_near_it_is(bundle: Bundle, levels: Path) -> None:
    manifest = bundle.manifest
    assert manifest.parity is not None
    assert [mode.mode for mode in manifest.parity.modes] == ["one_item", "batch", "truncation"]
    assert max(mode.max_abs_error for mode in manifest.parity.modes) <= 1e-5
    assert manifest.head is not None
    assert manifest.head.exclusive
    assert manifest.head.pooling is None
    assert manifest.pair is None
    assert verify(bundle.path, levels).failures == ()
    said = rankport("inspect", bundle.path)
    assert said.returncode == 0
    assert "softmax over low, medium, high" in said.stdout
    assert "the class's own" in said.stdout


def test_pairs_and_other_requests_are_refused_by_name(classifier: Classifier, bundle: Bundle) -> None:
    with pytest.raises(
        InvalidRequest, match=r"texts\[0\] is a pair, and classifier 'shared' reads one text: give"
    ):
        classifier.classify([("a", "b")])
    with pytest.raises(
        InvalidRequest, match="prefix: classifier 'shared' reads one text: leave the prefix out"
    ):
        classifier.classify(["a"], "b")
    with pytest.raises(InvalidRequest, match="classifies, and scores nothing"):
        Scorer.load(bundle)
    empty = classifier.classify([])
    assert (empty.probabilities.shape, empty.best) == ((0, 3), ())


def test_clients_get_what_the_process_gets(classifier: Classifier, address: str) -> None:
    expected = classifier.classify(TEXTS)
    with Client(address, timeout_s=30.0) as client:
        remote = client.classify(TEXTS)
        with pytest.raises(InvalidRequest, match="is a pair"):
            client.classify([("a", "b")])
        with pytest.raises(NotFound, match="no model that scores"):
            client.score("a", ["b"])
        assert client.describe().read_out == "softmax over low, medium, high"
    np.testing.assert_array_equal(remote.probabilities, expected.probabilities)
    np.testing.assert_array_equal(remote.logits, expected.logits)
    assert (remote.best, remote.labels, remote.exclusive) == (
        expected.best,
        expected.labels,
        expected.exclusive,
    )
    assert remote.fingerprint == expected.fingerprint

    async def ask() -> tuple[str, ...]:
        async with AsyncClient(address, timeout_s=30.0) as client:
            return (await client.classify(TEXTS)).best

    assert asyncio.run(ask()) == expected.best


def test_the_command_writes_tables_csv_and_json(
    classifier: Classifier, bundle: Bundle, address: str, tmp_path: Path
) -> None:
    expected = classifier.classify(TEXTS)
    table = rankport("classify", *TEXTS, "--bundle", bundle.path)
    assert table.returncode == 0
    assert all(
        text in table.stdout for text in ("cook", "3 labels: labels exclude each other", expected.best[0])
    )
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    rankport(
        "classify", "--file", tmp_path / "texts.jsonl", "--server", address, "--out", tmp_path / "out.csv"
    )
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["text"], row["label"]) for row in rows] == list(zip(TEXTS, expected.best, strict=True))
    assert list(rows[0]) == ["index", "text", "label", "probability", "status", "message"]
    said = rankport("classify", *TEXTS, "--bundle", bundle.path, "--json", "--threshold", 0.2)
    told = json.loads(said.stdout)
    assert [text["label"] for text in told["texts"]] == [", ".join(names) for names in expected.above(0.2)]
    assert list(told["texts"][0]["probabilities"]) == list(LEVELS)
    assert rankport("classify", "--bundle", bundle.path).returncode == 2


def test_judged_texts_give_the_accuracy_of_source_and_bundle(
    classifier: Classifier, bundle: Bundle, levels: Path, tmp_path: Path
) -> None:
    best = classifier.classify(TEXTS).best
    wrong = LEVELS[LEVELS.index(best[0]) - 1]
    lines = [{"text": text, "label": label} for text, label in zip(TEXTS, (wrong, *best[1:]), strict=True)]
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    verdict = verify(bundle.path, levels, judged=file)
    assert verdict.failures == ()
    quality = verdict.proof.quality
    assert quality is not None
    assert (quality.requests, quality.ndcg_at_1_source, quality.ndcg_at_1_bundle) == (4, 0.75, 0.75)
    file.write_text(json.dumps({"text": "cook", "label": "none"}) + "\n")
    with pytest.raises(InvalidRequest, match="label 'none' is none of low, medium, high"):
        verify(bundle.path, levels, judged=file)
    file.write_text(json.dumps({"text": "cook"}) + "\n")
    with pytest.raises(InvalidRequest, match="line 1: needs exactly the keys text"):
        verify(bundle.path, levels, judged=file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "cook", "label": "none"}, "line 2: label 'none' is none of low, medium, high"),
        ({"texts": ["a", "b"], "label": "low"}, "line 2: is a pair, and one text is read: give text"),
        ({"text": " \t", "label": "low"}, r"line 2: a text is ' \\t': give one that is not blank"),
    ],
)
def test_verify_names_a_bad_line_of_judged_texts_before_it_loads_the_checkpoint(
    line: dict[str, object], message: str, bundle: Bundle, levels: Path, tmp_path: Path
) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(json.dumps({"text": "cook", "label": "low"}) + "\n" + json.dumps(line) + "\n")
    steps: list[str] = []
    with pytest.raises(InvalidRequest, match=message):
        verify(bundle.path, levels, judged=file, on_progress=steps.append)
    assert steps == []


def test_a_judged_text_without_a_token_is_named_by_its_line(bundle: Bundle) -> None:
    """Which texts have none is the tokenizer's: one of a zero-width space alone, of BERT's; here one of blanks."""
    judged = [JudgedText("cook", ("low",), "f line 1"), JudgedText(" ", ("low",), "f line 2")]
    with pytest.raises(InvalidRequest, match=r"^f line 2: text is empty"):
        JudgedClasses.run(judged, bundle.manifest, Runnable(bundle, "cpu"), typed=True)


def test_pairs_of_a_pooled_body_in_fine_int8(bert: Path, tmp_path: Path, exported: Exports) -> None:
    folder = pooled_levels(bert, tmp_path / "pooled", "cls")
    judged = tmp_path / "judged.jsonl"
    judged.write_text(json.dumps({"texts": ["cook", "a b c pilot"], "label": ["low", "high"]}) + "\n")
    loss = Tolerance(max_ndcg_loss=1.0)
    bundle = exported(folder, texts="pair", quantize="int8-fine", judged=judged, tolerance=loss)
    manifest = bundle.manifest
    assert (manifest.kind, manifest.source.overrides) == ("classifier", [])
    assert manifest.head is not None
    assert manifest.head.pooling == "cls"
    assert [layer.out_features for layer in manifest.head.dense] == [16, 3]
    assert manifest.quantization is not None
    assert [(part.part, part.activations) for part in manifest.quantization.parts] == [
        ("linear", "int16 per token"),
        ("embedding", "none"),
    ]
    assert manifest.parity is not None
    assert manifest.drift is not None
    modes = [mode.mode for mode in manifest.parity.modes]
    assert modes == ["one_item", "batch", "pair_order", "truncation"]
    assert [mode.mode for mode in manifest.drift] == modes
    assert manifest.quality is not None
    assert manifest.quality.requests == 1
    pairs = [("cook", "a b c pilot"), ("a nurse", "b"), ("cook", "d")]
    with Classifier.load(bundle) as classifier:
        result = classifier.classify(pairs)
        shared = classifier.classify(["a b c pilot", "d"], prefix="cook")
        np.testing.assert_allclose(shared.logits, result.logits[[0, 2]], atol=1e-5)
        with pytest.raises(
            InvalidRequest, match=r"texts\[0\] is one text, .* give pairs \(first, second\), or"
        ):
            classifier.classify(["cook"])
        with pytest.raises(InvalidRequest, match="leave one of the two out"):
            classifier.classify(pairs, prefix="cook")
        with pytest.raises(LimitExceeded, match=r"item 1: .* the pair has room for"):
            classifier.classify([pairs[0], ("a " * 30, "b " * 30)])


def test_a_server_warms_it_up(classifier: Classifier) -> None:
    warm(classifier.model, 20.0)
