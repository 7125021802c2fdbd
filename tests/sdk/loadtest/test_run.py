"""One rate of a load test: nothing that a server does holds a request back, and each is charged from its due time."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.priorities import Priority
from rankport.sdk.cli.output.loadtest.words import warnings
from rankport.sdk.loadtest.arrivals import classes, due_times
from rankport.sdk.loadtest.config import Arrivals, LoadConfig
from rankport.sdk.loadtest.requests import LoadRequest
from rankport.sdk.loadtest.result import Ended, LoadResult
from rankport.sdk.loadtest.run import LoadProgress, run_rate

REQUESTS = [LoadRequest("a", b"1", 3), LoadRequest("b", b"2", 5)]
CONFIG = LoadConfig(duration_s=0.1, warm_up_s=0, arrivals="fixed")


class StalledTarget:
    """Answers nothing before it has got so many requests, then all at once."""

    def __init__(self, count: int, status: Callable[[int], str] = lambda number: "OK") -> None:
        self.sent: list[bytes] = []
        self.classes: list[Priority] = []
        self._count, self._status = count, status
        self._released = asyncio.Event()

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        number = len(self.sent)
        self.sent.append(request.body)
        self.classes.append(priority)
        if len(self.sent) == self._count:
            self._released.set()
        await self._released.wait()
        status = self._status(number)
        return Ended(status, "" if status == "OK" else f"refusal {number}")

    async def close(self) -> None: ...


def run(target: StalledTarget, rate: float, config: LoadConfig = CONFIG) -> LoadResult:
    told: list[LoadProgress] = []
    result = asyncio.run(run_rate(target, REQUESTS, rate, config, told.append))
    assert told[0].rate == rate
    return result


def test_all_are_sent_while_the_server_stalls_and_the_stall_is_charged_to_each() -> None:
    target = StalledTarget(20)
    result = run(target, 200)
    assert target.sent == [b"1", b"2"] * 10
    span_s = result.due_s[-1]
    assert span_s == pytest.approx(0.095)
    # Nobody was answered before the last was due: the first has waited for all of that.
    assert result.latency_s[0] >= span_s
    assert np.all(result.latency_s >= span_s - result.due_s)
    assert result.by_status == {"OK": 20}


class LateTarget(StalledTarget):
    """Answers each request after .2 s, and keeps when."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.ends_s: list[float] = []

    async def send(self, request: LoadRequest, priority: Priority = "interactive") -> Ended:
        self.classes.append(priority)
        await asyncio.sleep(0.2)
        self.ends_s.append(time.perf_counter())
        return Ended("OK")


def test_answers_count_in_the_seconds_in_which_they_come() -> None:
    """A server that works off its queue after the test answered no more a second for that."""
    late = run(LateTarget(0), 200)
    assert (late.by_status, late.goodput, late.items) == ({"OK": 20}, 0.0, 0)
    config = LoadConfig(duration_s=0.1, warm_up_s=0, arrivals="fixed", background_share=0.5)
    soon = run(StalledTarget(1), 200, config)
    in_time = soon.due_s + soon.latency_s < 0.1
    assert soon.goodput == pytest.approx(in_time.sum() / 0.1)
    assert soon.items == sum([3, 5][number % 2] for number in np.flatnonzero(in_time))
    parts = [soon.of_class(name).goodput for name in soon.classes]
    assert sum(parts) == pytest.approx(soon.goodput)


def test_those_of_the_warm_up_count_where_they_come_later() -> None:
    target = LateTarget(0)
    result = run(target, 20, LoadConfig(duration_s=0.3, warm_up_s=0.1, arrivals="fixed"))
    start_s = target.ends_s[2] - result.latency_s[0] - 0.1  # of the third, which is due as the warm-up ends
    came = sum(0.1 <= end_s - start_s < 0.4 for end_s in target.ends_s)
    assert result.goodput == pytest.approx(came / 0.3)


@pytest.mark.parametrize("arrivals", ["poisson", "constant", "fixed"])
def test_all_requests_are_due_in_the_time_of_the_test(arrivals: Arrivals) -> None:
    """The only one of a low rate was due at any time later, which was waited for."""
    for rate in (0.01, 0.1, 1.0, 10.0, 97.0):
        for seed in range(20):
            times = due_times(rate, 1.0, arrivals, seed, clients=16)
            assert len(times) >= 1
            assert times.max() < 1


def test_the_others_are_counted_by_status_and_have_no_part_in_the_latencies() -> None:
    result = run(StalledTarget(20, lambda number: "OK" if number % 4 else "RESOURCE_EXHAUSTED"), 200)
    assert result.by_status == {"OK": 15, "RESOURCE_EXHAUSTED": 5}
    assert result.failed_share == pytest.approx(0.25)
    assert result.as_json()["by_status"] == result.by_status
    assert result.as_json()["reasons"] == {"RESOURCE_EXHAUSTED": "refusal 0"}


def test_what_is_due_beyond_the_most_open_is_not_sent_and_said() -> None:
    config = LoadConfig(duration_s=0.1, warm_up_s=0, arrivals="fixed", max_open=5)
    target = StalledTarget(5)
    result = run(target, 200, config)
    # The five that were sent end at once; later ones find room again.
    assert result.by_status["OK"] == len(target.sent)
    assert len(result.status) == 20
    left_out = {"NOT_SENT": "5 requests were open (--max-open)"} if "NOT_SENT" in result.by_status else {}
    assert result.reasons == left_out


def test_the_warm_up_is_sent_and_not_measured() -> None:
    target = StalledTarget(1)
    result = run(target, 100, LoadConfig(duration_s=0.1, warm_up_s=0.1, arrivals="fixed"))
    assert len(target.sent) == 20
    assert (len(result.status), result.due_s[0]) == (10, 0.0)


def test_a_share_of_the_requests_is_in_the_background_and_told_apart() -> None:
    config = LoadConfig(duration_s=0.1, warm_up_s=0, arrivals="fixed", background_share=0.5, seed=3)
    target = StalledTarget(20)
    result = run(target, 200, config)
    assert list(result.priority) == target.classes == classes(20, "interactive", 0.5, 3)
    lower = result.of_class("background")
    assert (len(lower.status), lower.rate) == (
        target.classes.count("background"),
        pytest.approx(10 * len(lower.status)),
    )
    kept = [number for number, each in enumerate(target.classes) if each == "background"]
    assert lower.latency_s.tolist() == result.latency_s[kept].tolist()
    told = result.as_json()["by_priority"]
    assert isinstance(told, dict)
    assert {name: each["requests"] for name, each in told.items()} == {
        "interactive": target.classes.count("interactive"),
        "background": target.classes.count("background"),
    }


def test_requests_of_one_class_have_one_row() -> None:
    target = StalledTarget(20)
    result = run(
        target, 200, LoadConfig(duration_s=0.1, warm_up_s=0, arrivals="fixed", priority="background")
    )
    assert set(target.classes) == {"background"}
    assert (result.classes, result.as_json()["by_priority"]) == ((), {})


def test_the_share_of_a_class_is_what_was_asked_for() -> None:
    drawn = classes(10_000, "interactive", 0.2, 7)
    assert abs(drawn.count("background") - 2000) < 200  # five standard deviations
    assert set(classes(10, "background", 0.0, 0)) == {"background"}
    assert set(classes(10, "interactive", 1.0, 0)) == {"background"}


def result_of(latencies: list[float], status: list[str]) -> LoadResult:
    values = np.array(latencies)
    return LoadResult(
        10.0, len(latencies) / 10, np.arange(len(latencies)) / 10, values * 0, values, status, {}, 0
    )


def test_percentiles_are_latencies_that_were_measured() -> None:
    result = result_of([*(float(number) for number in range(1, 101)), 1e9], ["OK"] * 100 + ["UNAVAILABLE"])
    assert [result.percentile_s(percent) for percent in (50, 99, 100)] == [51, 100, 100]


def test_items_without_a_score_are_no_work_and_said() -> None:
    """Keys that are not stored, and items that a server left out under pressure, were counted as scored."""
    assert warnings(result_of([0.1] * 4, ["OK"] * 4)) == []
    told = warnings(replace(result_of([0.1] * 4, ["OK"] * 4), items=60, unscored=20))
    assert [each[:43] for each in told] == ["25.00% of the items in the answers have no "]


def test_without_an_answer_there_is_no_latency() -> None:
    result = result_of([1.0, np.nan], ["UNAVAILABLE", "NOT_SENT"])
    assert result.percentile_s(99) == float("inf")
    assert result.as_json()["latency_ms"] == dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9", "max"))


def test_fixed_arrivals_have_even_distances() -> None:
    assert due_times(4, 1, "fixed", 0).tolist() == [0, 0.25, 0.5, 0.75]


def test_constant_arrivals_are_even_for_each_client_at_phases_of_their_own() -> None:
    times = due_times(100, 10, "constant", 7, clients=8)
    assert len(times) == 1000
    assert (np.diff(times) >= 0).all()
    distances = times[8:] - times[:-8]  # from a client's request to its next one
    np.testing.assert_allclose(distances, 8 / 100)
    assert len(set(np.diff(times[:8]).round(6))) > 1, "phases are not even"
    assert times.max() < 10
    assert np.array_equal(times, due_times(100, 10, "constant", 7, clients=8))
    assert not np.array_equal(times, due_times(100, 10, "constant", 8, clients=8))


def test_random_arrivals_have_the_rate_and_come_again_with_their_seed() -> None:
    times = due_times(100, 100, "poisson", 7)
    assert abs(len(times) - 10_000) < 500  # five standard deviations
    assert times.max() < 100
    distances = np.diff(times)
    assert distances.std() == pytest.approx(distances.mean(), rel=0.05)
    assert np.array_equal(times, due_times(100, 100, "poisson", 7))
    assert not np.array_equal(times[:9], due_times(100, 100, "poisson", 8)[:9])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0}, "rate is 0: it must be from 0.001"),
        ({"duration_s": math.inf}, "duration_s is inf: it must be from 0.05 to 1000000"),
        ({"warm_up_s": math.inf}, "warm_up_s is inf: it must be from 0 to"),
        ({"timeout_s": math.inf}, "timeout_s is inf: it must be from 0.001"),
        ({"priority": "urgent"}, "priority is 'urgent': it must be one of interactive, background"),
        ({"background_share": 2}, "background_share is 2"),
        ({"clients": 0}, "clients is 0: it must be from 1"),
        ({"clients": 3}, "clients is 3: they share the rate of constant arrivals alone"),
        (
            {"priority": "background", "background_share": 0.5},
            "all requests are in the background, leave it out",
        ),
        ({"arrivals": "burst"}, "arrivals is 'burst': it must be poisson, constant or fixed"),
    ],
)
def test_wrong_knobs_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        LoadConfig(**given)  # type: ignore[arg-type]
