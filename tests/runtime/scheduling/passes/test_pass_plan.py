"""The scheduler: every pass makes progress, keeps its limits, and wastes little."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankport.runtime.scheduling.passes.pass_plan import (
    ItemWork,
    PassLimits,
    PrefixWork,
    plan_items,
    plan_prefill,
    spread,
)

LIMITS = PassLimits(max_tokens=100, max_padding_ratio=1.5)


def prefix_work(*ids: int, past: int = 0, branch: int = 0) -> PrefixWork:
    return PrefixWork(np.array(ids, np.int64), past, branch)


def item_work(*lengths: int, past: int = 10, branch: object = None) -> ItemWork:
    return ItemWork(np.array(lengths, np.int64), past, object() if branch is None else branch)


def equal_items(count: int, length: int = 2, past: int = 10) -> ItemWork:
    return item_work(*[length] * count, past=past)


def test_a_long_prefix_is_cut_into_chunks() -> None:
    assert plan_prefill([prefix_work(*range(250))], LIMITS) == [100]


def test_prefixes_of_several_requests_share_a_pass() -> None:
    work = [prefix_work(*range(first, first + 30)) for first in (0, 100, 200, 300)]
    assert plan_prefill(work, LIMITS) == [30, 30, 30, 0]


def test_the_same_prefix_is_computed_once() -> None:
    shared = range(1, 21)
    work = [
        prefix_work(*shared),
        prefix_work(*shared),
        prefix_work(*shared, 99),
        prefix_work(1, *range(30, 50)),
    ]
    assert plan_prefill(work, LIMITS) == [20, 0, 0, 21]


def test_equal_tokens_after_different_pasts_are_not_the_same() -> None:
    work = [prefix_work(1, 2, past=5, branch=7), prefix_work(1, 2, past=5, branch=8)]
    assert plan_prefill(work, LIMITS) == [2, 2]


def test_a_large_request_takes_whole_passes_and_small_ones_share() -> None:
    assert plan_items([equal_items(10_000), equal_items(5)], LIMITS) == [50, 0]
    assert plan_items([equal_items(5), equal_items(5), equal_items(5)], LIMITS) == [5, 5, 5]


def test_a_lone_request_leaves_free_instances_a_part_each_that_is_worth_a_pass() -> None:
    limits, lone = PassLimits(max_tokens=2048, max_padding_ratio=1.5), [equal_items(250)]
    assert plan_items(lone, spread(lone, limits, 1)) == [250]
    assert plan_items(lone, spread(lone, limits, 2)) == [125]
    assert plan_items(lone, spread(lone, limits, 8)) == [64]
    assert spread([equal_items(10_000)], limits, 2) == limits
    assert spread(lone * 2, limits, 2) == limits


def test_large_requests_have_a_bounded_part_of_a_pass_together() -> None:
    limits = replace(LIMITS, max_bulk_tokens=40)
    large = replace(equal_items(10_000), large=True)
    assert plan_items([large], limits) == [20]
    assert plan_items([large, large], limits) == [20, 0]
    assert plan_items([replace(equal_items(8), large=True), large, equal_items(10)], limits) == [8, 12, 10]
    assert plan_items([equal_items(30), large], limits) == [30, 20]
    assert plan_items([replace(item_work(70), large=True)], limits) == [1]  # the first is always served


def test_a_large_request_computes_a_bounded_chunk_of_its_prefix() -> None:
    limits = replace(LIMITS, max_bulk_tokens=40)
    large = replace(prefix_work(*range(250)), large=True)
    assert plan_prefill([large], limits) == [40]
    assert plan_prefill([prefix_work(*range(500, 530)), large], limits) == [30, 0]
    assert plan_prefill(
        [replace(prefix_work(*range(25)), large=True), prefix_work(*range(500, 530))], limits
    ) == [25, 30]


def test_a_large_request_gives_a_small_one_company_of_its_size() -> None:
    assert plan_items([equal_items(5), equal_items(10_000)], LIMITS) == [5, 5]


def test_requests_of_the_same_prefix_share_its_row() -> None:
    work = [item_work(2, 2, branch="same"), item_work(*[2] * 40, branch="same")]
    assert plan_items(work, LIMITS) == [2, 40]


def test_no_request_is_cut_to_fill_the_rest_of_a_pass() -> None:
    assert plan_items([equal_items(24)] * 3, LIMITS) == [24] * 2 + [0]  # 96 of 100 tokens: nearly full
    assert plan_items([equal_items(20)] * 3, LIMITS) == [20, 20, 10]


def test_a_pass_that_is_long_enough_takes_no_further_request() -> None:
    limits = replace(LIMITS, enough_tokens=40)
    assert plan_items([equal_items(10)] * 4, limits) == [10, 10, 0, 0]
    assert plan_items([equal_items(24), equal_items(1)], limits) == [24, 0]  # though it would fit
    assert plan_items([equal_items(10), equal_items(24), equal_items(1)], limits) == [10, 24, 0]
    assert plan_items([equal_items(10_000), equal_items(5)], limits) == [50, 0]  # a lone one has whole passes


def test_what_is_left_of_a_request_does_not_cut_the_others() -> None:
    assert plan_items([equal_items(3), equal_items(20), equal_items(20)], LIMITS) == [3, 20, 20]


def test_an_item_beyond_the_budget_gets_a_pass_of_its_own() -> None:
    assert plan_items([item_work(500, 501), item_work(1)], LIMITS) == [1, 0]


def test_items_of_other_lengths_wait() -> None:
    assert plan_items([item_work(1, 1, 1, 1, 50)], LIMITS) == [4]
    assert plan_items([item_work(2, 2), item_work(40, 40)], LIMITS) == [2, 0]


def test_a_prefix_much_longer_than_the_others_waits() -> None:
    assert plan_items([equal_items(5, past=10), equal_items(5, past=1000)], LIMITS) == [5, 0]


ids = st.lists(st.integers(0, 2), min_size=1, max_size=12)
limits = st.builds(
    PassLimits,
    st.integers(1, 40),
    st.floats(1.0, 3.0),
    enough_tokens=st.none() | st.integers(1, 40),
)


def padded(rows: list[NDArray[np.int64]]) -> int:
    return len(rows) * max(row.size for row in rows) * max(int(row.max()) for row in rows)


@given(st.lists(st.tuples(ids, st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=6), limits)
def test_prefill_passes_serve_the_first_and_keep_their_limits(
    requests: list[tuple[list[int], int, int]], limits: PassLimits
) -> None:
    work = [PrefixWork(np.array(tokens), past, (past, branch)) for tokens, past, branch in requests]
    takes = plan_prefill(work, limits)
    assert takes[0] == min(work[0].tokens.size, limits.max_tokens)
    assert all(take in (0, one.tokens.size) for take, one in zip(takes[1:], work[1:], strict=True))
    taken = [take for take in takes if take]
    assert sum(taken) <= limits.max_tokens
    assert len(taken) * max(taken) <= limits.max_padding_ratio * sum(taken)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(0, 50), st.integers(0, 3)
        ),
        min_size=1,
        max_size=6,
    ),
    limits,
)
def test_score_passes_serve_the_first_and_keep_their_limits(
    requests: list[tuple[list[int], int, int]], limits: PassLimits
) -> None:
    work = [ItemWork(np.sort(lengths), past, (past, branch)) for lengths, past, branch in requests]
    takes = plan_items(work, limits)
    assert takes[0] >= 1
    rows: dict[object, list[NDArray[np.int64]]] = {}
    for one, take in zip(work, takes, strict=True):
        if take:
            rows.setdefault(one.branch, []).append(one.lengths[:take])
    merged = [np.concatenate(parts) for parts in rows.values()]
    tokens = sum(int(row.sum()) for row in merged)
    shares = [int(one.lengths[:take].sum()) for one, take in zip(work, takes, strict=True) if take]
    pasts = [past for past, _ in rows]  # type: ignore[misc]
    assert limits.enough_tokens is None or len(shares) == 1 or tokens - max(shares) < limits.enough_tokens
    assert tokens <= limits.max_tokens or takes == [1] + [0] * (len(takes) - 1)
    assert padded(merged) <= limits.max_padding_ratio * tokens
    assert len(pasts) * max(pasts) <= limits.max_padding_ratio * sum(pasts)
