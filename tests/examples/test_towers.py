"""Cranfield with two towers: its data and baselines in every run, the trained ranking under `make test-full`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.esco.minilm import PACKAGE
from examples.towers.body_training import drawn_steps, train_body
from examples.towers.cranfield import Collection
from examples.towers.wide_features import NAMES, WideIndex, scaled
from support.effort import full_effort_with
from support.reading.two_towers import BERT, VOCAB, two_tower


@pytest.fixture(scope="module")
def collection() -> Collection:
    return Collection.load()


@pytest.fixture(scope="module")
def index(collection: Collection) -> WideIndex:
    return WideIndex.build(collection)


def test_the_collection_is_whole_and_its_split_by_query(collection: Collection) -> None:
    assert (len(collection.docs), len(collection.queries)) == (1398, 165)
    assert (len(collection.train), len(collection.test)) == (105, 60)
    assert not set(collection.train) & set(collection.test)
    assert set(np.unique(collection.gains)) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert all(collection.gains.any(axis=1))


def test_bm25_ranks_the_test_queries_as_told(collection: Collection, index: WideIndex) -> None:
    scores = [index.texts.scores(collection.queries[place]) for place in collection.test]
    assert collection.ndcg(scores, collection.test) == pytest.approx(0.504, abs=1e-3)


def test_features_are_named_and_scaled_by_the_training_queries(
    collection: Collection, index: WideIndex
) -> None:
    queries = [collection.queries[place] for place in collection.train[:5]]
    columns = index.columns(queries)
    assert columns.shape == (5, 1398, 3)
    by_name = index.features(queries[0])
    assert tuple(by_name) == NAMES
    np.testing.assert_array_equal(columns[0], np.stack([*by_name.values()], axis=1))
    bm25 = scaled(columns)[0]
    assert (bm25.name, bm25.scaling) == ("bm25", "mean-std")
    assert bm25.mean == bm25.nan == pytest.approx(columns[..., 0].mean(), rel=1e-5)


def test_steps_train_the_body_and_lower_the_loss_of_what_they_see(collection: Collection) -> None:
    module = two_tower(towers={"shared": BERT})
    before = {name: value.clone() for name, value in module.towers.state_dict().items()}
    rng = np.random.default_rng(0)
    queries, docs = ([rng.integers(5, VOCAB, 9).tolist() for _ in range(count)] for count in (165, 1398))
    (step,) = drawn_steps(collection, 1)
    assert (step.query, len(step.docs)) == (collection.train[0], len(step.gains))
    assert (step.gains[-10:] == 0).all()
    assert step.gains[0] > 0
    losses = train_body(module, queries, docs, [step] * 8, learning_rate=2e-2)
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    moved = [
        name for name, value in module.towers.state_dict().items() if not torch.equal(value, before[name])
    ]
    assert "shared.body.encoder.layer.0.attention.self.query.weight" in moved


@full_effort_with(PACKAGE)
def test_the_bundle_ranks_as_the_checkpoint_and_above_both_baselines(tmp_path: Path) -> None:
    from examples.towers.run import run

    report = run(tmp_path)
    quality = report["ndcg_at_10"]
    assert quality["bundle"] == pytest.approx(quality["checkpoint"], abs=1e-3)
    assert quality["bundle"] > max(quality["bm25"], quality["minilm_cosine"]) + 0.01
    assert report["largest_difference_from_checkpoint"] < 1e-3
    latency = report["latency_ms"]
    assert latency["query_text_and_stored_items"] < latency["cross_encoder_of_the_same_body"] / 5
    json.dumps(report)
