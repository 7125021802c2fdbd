"""What the session on a GPU says: energy by samples of the power, shares, and the lines of its summary."""

import itertools

import pytest

from benchmarks.gpu.reports.energy import PowerMeter, joules_of
from benchmarks.gpu.reports.figures import quantiles_ms
from benchmarks.gpu.reports.summary import summary


def test_energy_is_the_area_below_the_samples() -> None:
    samples = [(10.5, 100.0), (11.0, 300.0), (12.0, 300.0), (20.0, 9_000.0)]
    # Up to the first and from the last inside as those; the one outside counts for nothing.
    assert joules_of(samples, 10.0, 13.0) == pytest.approx(0.5 * 100 + 0.5 * 200 + 300 + 300)


@pytest.mark.parametrize(
    ("samples", "ended"),
    [([(10.1, 100.0), (10.2, 100.0)], 12.0), ([(10.1, 1.0), (10.2, 1.0), (10.3, 1.0)], 10.9)],
    ids=["two samples", "less than a second"],
)
def test_nothing_is_said_of_too_little(samples: list[tuple[float, float]], ended: float) -> None:
    assert joules_of(samples, 10.0, ended) is None


def test_a_meter_gives_watts_and_joules_a_thousand_items() -> None:
    samples = [(10.2, 240.0), (11.0, 250.0), (11.8, 260.0)]
    meter = PowerMeter(None, samples, begun=10.0, ended=12.0)
    assert meter.figures(500) == {"power_w": pytest.approx(250), "j_per_1000_items": pytest.approx(1000)}
    assert meter.figures(0) == {"power_w": pytest.approx(250)}


def test_a_meter_samples_its_source_at_once() -> None:
    with PowerMeter(lambda: 250.0) as meter:
        pass
    assert [watts for _, watts in meter.samples] == [250.0]


def test_a_meter_without_a_source_says_nothing() -> None:
    with PowerMeter(None) as meter:
        pass
    assert meter.watts is None
    assert meter.figures(10) == {}


def test_quantiles_are_in_milliseconds() -> None:
    assert quantiles_ms([0.001 * n for n in range(101)]) == {
        "p50_ms": pytest.approx(50),
        "p99_ms": pytest.approx(99),
    }


def test_the_summary_has_share_latency_energy_and_the_peers() -> None:
    ours = {"items_per_s": 62_134.0, "mfu": 0.155, "j_per_1000_items": 8.5, "power_w": 530.0}
    peer = {"items_per_s": 8_515.0, "useful_mfu": 0.02, "one_query_p99_ms": 12.0}
    served = {"items_per_s": 49_438.0, "p50_ms": 80.0, "p99_ms": 231.0, "callers": 16}
    figures = {
        "in_process mixlm fp16": {"mixed-250 engine, fresh prefixes": ours},
        "served mixlm fp16": {"mixed-250 with 4 callers": served, "mixed-250 best at p99 <= 500 ms": served},
        "peers mixlm": {"mixed-250 transformers repeated_prefix": peer},
    }
    ends = itertools.cycle([{"outcome": "done", "seconds": 31.0, "most_s": 80.0}])
    parts = {name: {"figures": value} | next(ends) for name, value in figures.items()}
    parts["in_process mixlm bf16"] = {"skipped": "4 s left"}
    lines = summary({"commit": "c", "device": "cuda", "engine": {}, "parts": parts})
    assert lines[1:] == [
        "mixed-250: fp16 engine, fresh prefixes: 62,134 items/s, 15.5% of the ceiling, 530 W, 8.5 J a thousand items",
        "mixed-250: fp16 best at p99 <= 500 ms: 49,438 items/s, 16 callers, 80 ms p50, 231 ms p99",
        "mixed-250: transformers repeated_prefix: 8,515 items/s, 2.0% of the ceiling, as far as useful, "
        "12 ms p99 of one query",
        "mixed-250: fp16 engine, fresh prefixes is 7.30 x transformers repeated_prefix",
        *(f"{name}: done, 31.0 of 80 s" for name in figures),
        "in_process mixlm bf16: 4 s left, 0 of 0 s",
    ]


def test_rankers_of_sets_are_told_beside_torch() -> None:
    ours, theirs = {"candidates_per_s": 7.5e6}, {"candidates_per_s": 5e6}
    figures = {
        "set_ranking mixlm": {"hstu independent fp16, histories kept": ours},
        "set_peers mixlm": {
            "hstu independent fp16, torch compiled, histories kept": theirs,
            "ligr set-wise fp16, torch compiled, histories kept": theirs,
        },
    }
    parts = {name: {"figures": each, "outcome": "done"} for name, each in figures.items()}
    lines = summary({"commit": "c", "device": "cuda", "engine": {}, "parts": parts})
    assert "set_ranking: hstu independent fp16, histories kept: 1.50 x torch compiled" in lines
    assert "set_ranking mixlm: hstu independent fp16, histories kept: candidates_per_s 7.5e+06" in lines
    assert not [line for line in lines if line.startswith("set_ranking: ligr")]
