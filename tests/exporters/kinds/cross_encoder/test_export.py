"""A cross-encoder from its folder to scores that sentence-transformers gives too."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import ItemStatus
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.cross_encoder.cross_encoder import CrossEncoder
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.server.lifecycle.warming import warm
from support.reading.pair_encoders import LIMIT, cross_encoder_folder

QUERY = "senior software engineer"
ITEMS = ["junior software engineer", "cook", "the chief machine operator of the senior pilot", "driver"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoder_folder(tmp_path_factory.mktemp("cross") / "ce")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return export(folder, folder.parent / "ce.bundle", kind="cross-encoder")


@pytest.fixture
def model(bundle: Bundle) -> Iterator[CrossEncoder]:
    with CrossEncoder.load(bundle) as loaded:
        yield loaded


def predicted(folder: Path, query: str, items: list[str]) -> np.ndarray:
    from sentence_transformers import CrossEncoder as Library

    library = Library(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
    scores: np.ndarray = library.predict([(query, item) for item in items])
    return scores


def test_its_scores_are_those_of_sentence_transformers_whatever_their_length(
    model: CrossEncoder, folder: Path
) -> None:
    items = [*ITEMS, " ".join(ITEMS * 8)]
    with pytest.raises(LimitExceeded, match=r"item 4: .* the pair has room for 29"):
        model.score(QUERY, items)
    result = model.score(QUERY, items, truncation="truncate")
    np.testing.assert_allclose(result.scores, predicted(folder, QUERY, items), atol=1e-5)
    assert [status is ItemStatus.TRUNCATED for status in result.status] == [False] * 4 + [True]
    assert result.messages[4] == "pair cut to the bundle's limits"
    assert (result.score_kind, result.read_out) == ("probability", "sigmoid of LABEL_0")
    assert result.usage.prefix_tokens_computed == 5 * 5  # [BOS] three words [EOS], for each item


def test_its_bundle_says_what_was_compared_with_what(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.parity is not None
    modes = [mode.mode for mode in manifest.parity.modes]
    assert modes == ["one_item", "batch", "pair_order", "truncation", "sentence_transformers"]
    assert max(mode.max_abs_error for mode in manifest.parity.modes) <= 1e-5
    assert manifest.parity.reference is not None
    assert "and sentence-transformers 6" in manifest.parity.reference
    assert [tensor.name for tensor in manifest.graphs[0].inputs] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    assert manifest.pair is not None
    assert (manifest.pair.max_tokens, manifest.axes["item_tokens"].max) == (LIMIT, LIMIT)


def test_verify_proves_a_published_bundle_again(bundle: Bundle, folder: Path) -> None:
    verdict = verify(bundle.path, folder, batch_queries=3)
    assert verdict.failures == ()
    batches = verdict.proof.parity.batches
    assert batches is not None
    assert (batches.requests, batches.items, batches.changed) == (3, 60, 0)
    assert batches.sizes[:3] == [1, 2, 4]


def test_any_scorer_of_its_answers_alike(bundle: Bundle, model: CrossEncoder) -> None:
    with Scorer.load(bundle) as scorer:
        np.testing.assert_array_equal(scorer.score(QUERY, ITEMS).scores, model.score(QUERY, ITEMS).scores)
        ranking = scorer.rank(QUERY, ITEMS, top_k=2)
        assert ranking.indices.tolist() == np.argsort(-model.score(QUERY, ITEMS).scores)[:2].tolist()


def test_what_it_takes_no_part_in_is_refused_by_name(model: CrossEncoder) -> None:
    with pytest.raises(InvalidRequest, match="takes no embedding tokens"):
        model.score(QUERY, [np.zeros((1, 32), np.float32)])
    assert len(model.score(QUERY, []).scores) == 0
    assert model.capabilities == {"scores", "scores_apart"}
    with pytest.raises(InvalidRequest, match="has no head of classes: score with it"):
        model.submit_classify([(QUERY, ITEMS[0])])


def test_a_server_warms_it_up(model: CrossEncoder) -> None:
    warm(model, 20.0)
