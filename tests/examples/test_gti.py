"""GTI's movies: nothing of a case is from before the split but its history, and the measures are right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from examples.gti.language_model import LanguageModelConfig, train
from examples.gti.movie_text import tokenizer_of, write_pairs
from examples.gti.movies import Case, Movies, ranked_by, recall_and_ndcg, vectors
from examples.gti.semantic_ids import quantize
from examples.gti.tuning import TuningRecipe, tune


@pytest.fixture(scope="module")
def movies() -> Movies:
    return Movies.load()


def test_the_split_is_by_time(movies: Movies) -> None:
    assert (len(movies), len(movies.histories), len(movies.cases)) == (8095, 2297, 1551)
    assert sum(map(len, movies.histories)) == movies.all_time.sum() == int(0.85 * 60438)
    assert all(len(case.seen) > 2 for case in movies.cases)
    assert min(map(min, movies.ages)) >= 0
    assert movies.recent.sum() == sum(age <= 7 for ages in movies.ages for age in ages)
    assert movies.texts[movies.cases[0].wanted].count("(") >= 1


def test_popularity_has_the_recall_of_the_table(movies: Movies) -> None:
    found = [ranked_by(movies.recent, case, 10) for case in movies.cases]
    assert recall_and_ndcg(found, movies.cases)["recall_at_10"] == pytest.approx(0.1966, abs=1e-4)


def test_recall_and_ndcg_are_those_of_their_definitions() -> None:
    cases = [Case([0, 1, 2], 5), Case([1, 2, 3], 9)]
    assert ranked_by(np.array([9, 8, 7, 1, 2, 3]), cases[0], 2) == [5, 4]
    figures = recall_and_ndcg([[4, 5], [8, 7]], cases)
    assert figures == {"recall_at_10": 0.5, "ndcg_at_10": pytest.approx(0.5 / np.log2(3))}


def test_who_is_watched_together_is_near(movies: Movies) -> None:
    """Two parts of one series have many viewers in common; the median pair has few."""
    rows = vectors(movies, 16, seed=0)
    first, second = (
        next(row for row, text in enumerate(movies.texts) if text.startswith(title))
        for title in ("Iron Man 2 (", "Iron Man (")
    )
    cosines = rows @ rows[first] / (np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[first]))
    assert (cosines > cosines[second]).mean() < 0.02


def test_tuning_learns_what_has_weight_and_nothing_else(tmp_path: Path) -> None:
    """A model of random movies foretells the one next movie that its histories share, if that has weight."""
    texts = [f"movie number {place}" for place in range(30)]
    tokenizer = tokenizer_of(texts, 280)
    config = LanguageModelConfig(hidden=16, layers=1, heads=2, steps=2)
    train(texts * 30, config, tmp_path / "lm", tokenizer)
    ids = quantize(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32), 2, 4, seed=0)
    write_pairs(texts, ids, tmp_path / "pairs.jsonl", tmp_path / "tokens.txt")
    assert len((tmp_path / "tokens.txt").read_text().splitlines()) == 8
    histories = [[[10 + place % 7, 20], [11, 21], [30, 31]] for place in range(64)]
    recipe = TuningRecipe(epochs=20, saved=(20,), warmup=2, rate=1e-2, batch=8)
    written = tune(tmp_path / "lm", histories, [[0.0, 0.0, 1.0]] * 64, tmp_path, recipe)
    assert list(written) == [tmp_path / "epoch-20"]
    assert written[tmp_path / "epoch-20"] < 0.1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "epoch-20").eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 12, 20, 11, 21, 30]])).logits[0]
    assert logits[-2:].argmax(-1).tolist() == [30, 31]
    assert logits[0].argmax() not in (10, 11)
