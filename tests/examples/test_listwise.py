"""The list ranker's body ranks as its feedback does on vectors, in any order of the items."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.esco.dataset import Dataset
from examples.esco.minilm import PACKAGE
from examples.listwise.body import Demo, list_ranker
from examples.listwise.feedback import Feedback, FeedbackLayer
from examples.listwise.lists import ITEMS, judged_lists, lengthened, phrase_lists, shuffled
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from support.effort import full_effort_with

QUERY = "senior resistance welder"
COUNT = 12


@pytest.fixture(scope="module")
def tokens() -> NDArray[np.float32]:
    """Unit vectors of 384 values that, as MiniLM's, have nothing along one direction."""
    drawn = np.random.default_rng(0).standard_normal((600, 384)).astype(np.float32)
    drawn[:, 5] = 0
    drawn[:, :5] *= 6  # most of their length is in few directions
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def demo(tokens: NDArray[np.float32]) -> Demo:
    return Demo.load(tokens)


def cosines(demo: Demo, layer: FeedbackLayer, items: Tensor) -> Tensor:
    """Scores items [items, hidden] by the model, as a bundle's prompt has them. [items]"""
    model, tokenizer = list_ranker(demo, layer)
    ids = tokenizer.convert_tokens_to_ids(["[BOS]", *tokenizer.tokenize(QUERY)])
    item, query = tokenizer.convert_tokens_to_ids(["[ITEM]", "[QUERY]"])
    rows = torch.tensor([*ids, *[0, item] * len(items), query])
    marks = torch.tensor([*range(len(ids) + 1, len(rows) - 1, 2), len(rows) - 1])
    return read(model, rows, marks, items, len(ids))


@torch.no_grad()
def read(model: ListRankerModel, rows: Tensor, marks: Tensor, items: Tensor, start: int) -> Tensor:
    embedded = model.get_input_embeddings()(rows)
    embedded[start:-1:2] = items
    vectors = nn.functional.normalize(model(rows[None], marks[None], embedded[None])[0], dim=-1)
    return vectors[:-1] @ vectors[-1]


@pytest.mark.parametrize("weight", [0.0, 0.6])
def test_the_model_ranks_as_its_feedback_does_on_vectors(
    weight: float, demo: Demo, tokens: NDArray[np.float32]
) -> None:
    constant = demo.directions.constant
    items = torch.from_numpy(tokens[:COUNT])
    items = nn.functional.normalize(items - torch.outer(items @ constant, constant), dim=-1)
    layer = FeedbackLayer(demo.directions.main, 6, Feedback(weight=weight))
    scores = cosines(demo, layer, items)
    with torch.no_grad():
        wanted = layer(demo.query_vectors([QUERY]), items[None], torch.ones(1, COUNT, dtype=torch.bool))[0]
    torch.testing.assert_close(scores, wanted, atol=0.05, rtol=0)
    order = torch.arange(COUNT).flip(0)
    torch.testing.assert_close(cosines(demo, layer, items[order]), scores[order], atol=2e-3, rtol=0)


def test_lists_are_of_what_training_may_read_and_of_all_gains() -> None:
    dataset = Dataset.load()
    known = set(dataset.training_rows())
    drawn = np.random.default_rng(0).standard_normal((len(dataset.items), 8))
    lists = [*judged_lists(dataset), *phrase_lists(dataset, drawn, 20, np.random.default_rng(1))]
    assert len(lists) == 951 + 20
    for own in lists:
        assert known.issuperset(own.rows.tolist())
        assert len(set(own.rows.tolist())) == len(own.rows)
        assert own.gains.max() == 2
    assert {len(own.rows) for own in lists[951:]} == {ITEMS}


def test_an_order_and_further_items_change_no_gain() -> None:
    dataset = Dataset.load()
    queries = dataset.split("test")[:3]
    for query, other, longer in zip(
        queries, shuffled(queries), lengthened(dataset, queries, 125), strict=True
    ):
        gains = dict(zip(query.item_ids, query.gains, strict=True))
        assert dict(zip(other.item_ids, other.gains, strict=True)) == gains
        assert other.item_ids != query.item_ids
        added = dict(zip(longer.item_ids, longer.gains, strict=True))
        assert len(added) == 125
        assert gains.items() <= added.items()
        assert sum(added.values()) == sum(gains.values())


@full_effort_with(PACKAGE)
def test_lists_rank_at_least_as_the_ranker_that_they_are_made_of(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.listwise.run", "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    report = json.loads((tmp_path / "report.json").read_text())
    found, alone = report["ndcg_at_10"], report["ndcg_at_10"]["the demo's ranker, point by point"]
    for block in (5, 20, 125):
        for split in ("test", "unseen-test"):
            assert found[f"list-ranker, blocks of {block}"][split] > alone[split] - 0.008
    assert max(report["max_abs_error"].values()) <= 1e-5
    assert report["kendall_tau_of_orders"] >= 0.99
