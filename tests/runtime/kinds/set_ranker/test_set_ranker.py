"""`SetRanker`: rankings, states kept under the events themselves, and requests that are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest, LimitExceeded, RankportError, Unavailable
from rankport.protos.sets import SetQuery, SetRanking
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import Device, EngineConfig
from rankport.runtime.kinds.capabilities import IdCounts
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.server.lifecycle.warming import warm
from support.effort import scale
from support.sets.requests import HEADS, NOW, by_id, candidates, history, times


def ranked(ranker: SetRanker, events: int = 6, count: int = 8, **more: Any) -> SetRanking:
    return ranker.rank(history(events), candidates(count), times=times(events), now=NOW, **more)


def test_the_order_is_that_of_the_weighted_heads(set_wise: SetRanker) -> None:
    weights = {"click": 1.0, "like": -0.5}
    result = ranked(set_wise, head_weights=weights, top_k=3)
    assert result.heads == HEADS
    assert result.head_scores.shape == (8, 3)
    assert ((result.head_scores > 0) & (result.head_scores < 1)).all()
    expected = result.head("click") - 0.5 * result.head("like")
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)
    assert result.order.tolist() == np.argsort(-result.scores, kind="stable")[:3].tolist()
    np.testing.assert_allclose(ranked(set_wise).scores, result.head_scores.sum(axis=1), atol=1e-6)
    assert result.fingerprint == set_wise.describe().fingerprint
    assert set_wise.describe().item_forms == ()
    assert set_wise.describe().features == ("movie", "user", "genre", "title")


def test_a_description_says_all_that_a_request_is_made_of(set_wise: SetRanker, top: SetRanker) -> None:
    described = set_wise.describe()
    assert [(each.name, each.source, each.width) for each in described.event_features] == [
        ("movie", "id", 1),
        ("rating", "scalar", 1),
    ]
    assert [(each.name, each.source, each.width) for each in described.candidate_features] == [
        ("movie", "id", 1),
        ("user", "id", 1),
        ("genre", "dense", 3),
        ("title", "content", 5),
    ]
    assert described.event_times
    assert (described.max_prefix_tokens, described.max_item_tokens) == (32, 16)
    assert (described.mask, top.describe().mask) == ("set-wise", "top")


def test_only_new_events_are_computed(set_wise: SetRanker) -> None:
    usages = [ranked(set_wise, events).usage for events in (4, 6, 6, 3)]
    assert [(usage.prefix_tokens_cached, usage.prefix_tokens_computed) for usage in usages] == [
        (0, 4),
        (4, 2),
        (6, 0),
        (3, 0),
    ]
    cache = set_wise.counts().cache
    assert cache is not None
    assert (cache.lookups, cache.hits, cache.tokens_reused, cache.tokens_computed) == (4, 3, 13, 6)


@pytest.mark.parametrize("changed", ["movie", "rating", "time"])
def test_an_event_that_differs_in_anything_is_another(changed: str, set_wise: SetRanker) -> None:
    events, when = history(6), times(6)
    fresh = ranked(set_wise)
    if changed == "time":
        when[4] += 1
    else:
        events[changed][4] += 1
    other = set_wise.rank(events, candidates(8), times=when, now=NOW)
    assert other.usage.prefix_tokens_cached == 4
    assert changed == "time" or not np.array_equal(other.head_scores, fresh.head_scores)
    assert ranked(set_wise).usage.prefix_tokens_cached == 6


def test_the_cache_changes_no_score(set_wise: SetRanker) -> None:
    fresh = ranked(set_wise, 6)
    set_wise.rank(history(6, seed=9), candidates(2), times=times(6), now=NOW)
    np.testing.assert_allclose(ranked(set_wise, 6).head_scores, fresh.head_scores, atol=1e-6)
    ranked(set_wise, 9)
    np.testing.assert_allclose(ranked(set_wise, 6).head_scores, fresh.head_scores, atol=1e-6)


@settings(max_examples=scale(30))
@given(st.permutations(range(8)), st.integers(0, 20), st.lists(st.integers(0, 2), min_size=8, max_size=8))
def test_candidates_in_another_order_have_their_scores_in_that_order(
    set_wise: SetRanker, order: list[int], events: int, sessions: list[int]
) -> None:
    there = ranked(set_wise, events, sessions=sessions)
    moved = {name: column[order] for name, column in candidates(8).items()}
    own = [sessions[place] for place in order]
    again = set_wise.rank(history(events), moved, times=times(events), now=NOW, sessions=own)
    np.testing.assert_allclose(again.head_scores, there.head_scores[order], atol=1e-6)


def test_sessions_keep_candidates_apart(set_wise: SetRanker) -> None:
    together = ranked(set_wise)
    apart = ranked(set_wise, sessions=[0, 0, 0, 0, 1, 1, 1, 1])
    half = {name: column[:4] for name, column in candidates(8).items()}
    alone = set_wise.rank(history(6), half, times=times(6), now=NOW)
    np.testing.assert_allclose(apart.scores[:4], alone.scores, atol=1e-6)
    assert np.abs(apart.scores - together.scores).max() > 1e-5


def test_the_top_of_a_first_pass_see_each_other_and_come_first(top: SetRanker) -> None:
    whole = ranked(top)
    one_by_one = [
        top.rank(
            history(6), {name: column[[i]] for name, column in candidates(8).items()}, times=times(6), now=NOW
        ).scores[0]
        for i in range(8)
    ]
    first = np.argsort(-np.array(one_by_one), kind="stable")[:3]
    assert sorted(whole.order[:3].tolist()) == sorted(first.tolist())
    rest = np.setdiff1d(np.arange(8), first)
    np.testing.assert_allclose(whole.scores[rest], np.array(one_by_one)[rest], atol=1e-6)
    chosen = {name: column[first] for name, column in candidates(8).items()}
    again = top.rank(history(6), chosen, times=times(6), now=NOW)
    np.testing.assert_allclose(whole.scores[first], again.scores, atol=1e-6)


def test_equal_candidates_stay_in_the_order_of_the_request(set_wise: SetRanker, top: SetRanker) -> None:
    """Each equals its copy, of which the first pass cannot tell one."""
    twice = {name: np.tile(column, (2,) + (1,) * (column.ndim - 1)) for name, column in candidates(8).items()}
    for ranker, ahead in ((set_wise, 0), (top, 3)):
        result = ranker.rank(history(6), twice, times=times(6), now=NOW)
        assert len(set(result.scores.tolist())) < 16
        for part in (result.order[:ahead].tolist(), result.order[ahead:].tolist()):
            assert part == sorted(part, key=lambda place: (-result.scores[place], place))


def test_a_server_warms_it_up(set_wise: SetRanker) -> None:
    warm(set_wise, 10)
    assert set_wise.counts().engines["cpu"].stages["rank"].passes == 1


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            "cuda",
            "has graphs for onnx-cpu, not for CUDA: take --device cpu, or export it with --target onnx-cuda",
        ),
        ("tensorrt", "ranks sets, which device tensorrt does not yet: take --device cpu or cuda"),
    ],
)
def test_a_device_without_graphs_is_refused_by_name(
    device: Device, message: str, set_bundle: Callable[[str, str], Bundle]
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        SetRanker.load(set_bundle("hstu", "set-wise"), config=EngineConfig(device=device))


@pytest.mark.parametrize("block", ["hstu", "ligr"])
def test_instances_answer_as_one_does(
    set_bundle: Callable[[str, str], Bundle], block: str, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = set_bundle(block, "top")
    configs = [EngineConfig(threads=2, instances=instances, max_prefill_tokens=4) for instances in (1, 2)]
    queries = [
        SetQuery.of(history(events, seed), candidates(8), times=times(events), now=NOW)
        for seed, events in ((0, 6), (1, 9), (0, 12), (0, 6), (2, 3), (1, 10))
    ]
    with SetRanker.load(bundle, config=configs[0]) as one, SetRanker.load(bundle, config=configs[1]) as two:
        expected = [one.submit_rank(query).result() for query in queries]
        rankings = [future.result() for future in [two.submit_rank(query) for query in queries * 3]]
    for ranking, alone in zip(rankings, expected * 3, strict=True):
        np.testing.assert_allclose(ranking.head_scores, alone.head_scores, atol=1e-6)
        assert ranking.order.tolist() == alone.order.tolist()
    assert "computes one pass at a time" not in caplog.text


def test_graphs_that_gather_rows_have_one_instance_and_say_so(
    set_bundle: Callable[..., Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    bundle = set_bundle("hstu", "set-wise", "onnx-cuda")
    with SetRanker.load(bundle, config=EngineConfig(threads=2, instances=2)) as ranker:
        told = "computes one pass at a time, with all threads, not in 2 instances: its graphs are a GPU's"
        assert f"bundle {bundle.manifest.name!r} {told}" in caplog.text
        queries = [
            SetQuery.of(history(6, seed), candidates(8, seed), times=times(6), now=NOW) for seed in range(8)
        ]
        alone = [ranker.submit_rank(query).result() for query in queries]
        together = [future.result() for future in [ranker.submit_rank(query) for query in queries * 4]]
    for ranking, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_allclose(ranking.head_scores, expected.head_scores, atol=1e-6)


def test_a_history_may_be_empty(set_wise: SetRanker, top: SetRanker) -> None:
    for ranker in (set_wise, top):
        empty = ranker.rank({}, candidates(3), now=NOW)
        assert np.isfinite(empty.scores).all()
        assert empty.usage.prefix_tokens_computed == 0


BAD: list[tuple[dict[str, Any], type[RankportError], str]] = [
    ({"history": history(33), "times": times(33)}, LimitExceeded, "history has 33 rows, the bundle takes 32"),
    ({"candidates": candidates(17)}, LimitExceeded, "candidates has 17 rows, the bundle takes 16"),
    ({"candidates": candidates(0)}, InvalidRequest, "candidates is empty"),
    (
        {"candidates": {"movie": [1]}},
        InvalidRequest,
        r"candidates: features missing user, genre, title: give",
    ),
    ({"candidates": candidates(1) | {"age": [1]}}, InvalidRequest, r"unknown age"),
    (
        {"candidates": candidates(1) | {"genre": [[1.0, 2.0]]}},
        InvalidRequest,
        r"\['genre'\] has shape \[1, 2\]; must be \[rows, 3\]",
    ),
    ({"candidates": candidates(1) | {"movie": [0.5]}}, InvalidRequest, r"\['movie'\] must be ids"),
    ({"candidates": candidates(1) | {"movie": [True]}}, InvalidRequest, r"\['movie'\] must be ids"),
    ({"candidates": candidates(2) | {"movie": [True, 1]}}, InvalidRequest, "is neither number nor key"),
    ({"candidates": candidates(1) | {"title": ["a"]}}, InvalidRequest, "no token store is loaded"),
    *(
        ({"candidates": candidates(2) | {"title": titles}}, InvalidRequest, "is neither number nor key")
        for titles in ([b"a", b"b"], np.array([b"a", b"b"]), ["a", 1], [True, "a"], [["a"], ["b"]])
    ),
    ({"candidates": candidates(1) | {"title": np.array(["a"], object)}}, InvalidRequest, "no token store is"),
    (
        {"candidates": candidates(2) | {"genre": np.full((2, 3), np.inf)}},
        InvalidRequest,
        r"\['genre'\]\[0\] is not finite",
    ),
    ({"candidates": candidates(2) | {"movie": [1]}}, InvalidRequest, "columns of unequal length"),
    (
        {"head_weights": {"share": 1.0}},
        InvalidRequest,
        "'share' is no head: the bundle has click, dwell, like",
    ),
    ({"head_weights": {"like": 0, "click": -0.0}}, InvalidRequest, "head_weights are all 0: give the weight"),
    ({"head_weights": {"like": 1e-60}}, InvalidRequest, "head_weights are all 0: give the weight"),
    ({"head_weights": {"like": float("nan")}}, InvalidRequest, r"head_weights\['like'\] is nan"),
    ({"head_weights": {"like": 1e39}}, InvalidRequest, r"head_weights\['like'\] is 1e\+39: give .* 1e\+30"),
    ({"top_k": 0}, InvalidRequest, "top_k is 0"),
    ({"now": 2**63}, InvalidRequest, "now is 9223372036854775808: give whole seconds, of 64 bits"),
    ({"times": [2**63] * 6}, InvalidRequest, r"times\[0\] is 9223372036854775808: must be at most"),
    (
        {"candidates": candidates(1) | {"user": [2**64 - 1]}},
        InvalidRequest,
        r"\['user'\]\[0\] is the id 18446744073709551615, and the ids of its table are int64: view the numbers as",
    ),
    ({"times": None}, InvalidRequest, "times: is missing"),
    ({"now": None}, InvalidRequest, "now: is missing"),
    ({"times": times(3)}, InvalidRequest, r"times has shape \[3\]: there are 6 events"),
    ({"sessions": [0]}, InvalidRequest, r"sessions has shape \[1\]: there are 4 candidates"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_a_request_that_does_not_fit_is_refused(
    change: dict[str, Any], error: type[RankportError], message: str, set_wise: SetRanker
) -> None:
    request = {"history": history(6), "candidates": candidates(4), "times": times(6), "now": NOW}
    with pytest.raises(error, match=message):
        set_wise.rank(**(request | change))


def test_what_is_nan_or_unknown_counts_as_the_bundle_says(set_wise: SetRanker) -> None:
    """NaN ratings are 6.5, unknown movies a row of zeros: two unknown ones are the same candidate."""
    events = history(6)
    events["rating"][2] = np.nan
    missing = set_wise.rank(events, candidates(4), times=times(6), now=NOW)
    events["rating"][2] = 6.5
    given = set_wise.rank(events, candidates(4), times=times(6), now=NOW)
    np.testing.assert_array_equal(missing.scores, given.scores)
    one, two = candidates(4), candidates(4)
    one["movie"][1], two["movie"][1] = 50, -3
    scores = [set_wise.rank(events, each, times=times(6), now=NOW).scores for each in (one, two)]
    np.testing.assert_array_equal(scores[0], scores[1])


def test_unknown_ids_are_counted_by_table(set_bundle: Callable[..., Bundle]) -> None:
    with SetRanker.load(set_bundle("hstu", "set-wise", keyed=True), config=EngineConfig(threads=1)) as keyed:
        assert keyed.counts().ids == {"movie": IdCounts(), "user": IdCounts()}
        ranked_by = by_id(candidates(8))
        ranked_by["movie"][[2, 5]] = 77
        for _ in range(2):
            keyed.rank(by_id(history(6)), ranked_by, times=times(6), now=NOW)
        assert keyed.counts().ids == {"movie": IdCounts(24, 4), "user": IdCounts(16, 0)}


@pytest.mark.parametrize("change", ["cut", "written over"])
@pytest.mark.parametrize("part", ["rows", "keys"])
def test_a_table_that_changes_under_a_ranker_is_told_and_not_read(
    set_bundle: Callable[..., Bundle], tmp_path: Path, part: str, change: str
) -> None:
    copy = shutil.copytree(set_bundle("hstu", "set-wise", keyed=True).path, tmp_path / "copy")
    table = copy / "tables" / f"movie.{part}"
    with SetRanker.load(copy, config=EngineConfig(threads=1)) as ranker:
        query = ranker.small_query()
        ranker.submit_rank(query).result()
        size = 10 if change == "cut" else table.stat().st_size
        with table.open("r+b") as file:
            file.truncate(size)
            file.write(b"\xff" * size)
        with pytest.raises(
            Unavailable, match=rf"movie\.{part} was written over or cut .*; load the model again"
        ):
            ranker.submit_rank(query)
        with pytest.raises(Unavailable, match=rf"movie\.{part} was written over or cut"):
            ranker.small_query()
        assert not ranker.alive
