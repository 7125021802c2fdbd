"""Metrics say what the counters of a server and its engines say."""

from typing import Any

import pytest

from support.metric_pages import MODEL, metric_page, metric_values


@pytest.fixture(scope="module")
def values() -> dict[Any, float]:
    return metric_values(metric_page())


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        (
            "rankport_calls_total",
            {"front": "grpc", "method": "Scoring.Score", "model": MODEL, "code": "OK"},
            2,
        ),
        ("rankport_answer_seconds_sum", {"model": MODEL, "priority": "background"}, 0.2),
        ("rankport_refused_requests_total", {"priority": "background", "reason": "deadline"}, 14),
        ("rankport_queue_background_requests", {"model": MODEL, "device": "cpu"}, 0),
        ("rankport_call_seconds_bucket", {"method": "Scoring.Score", "model": MODEL, "le": "0.025"}, 0),
        ("rankport_call_seconds_bucket", {"method": "Scoring.Score", "model": MODEL, "le": "0.05"}, 1),
        ("rankport_call_seconds_bucket", {"method": "Scoring.Score", "model": MODEL, "le": "+Inf"}, 2),
        ("rankport_phase_seconds_sum", {"model": MODEL, "phase": "tokenize"}, 0.002),
        ("rankport_pending_requests", {}, 6),
        ("rankport_open_calls", {}, 8),
        ("rankport_overloads_total", {}, 9),
        ("rankport_saturated_seconds", {}, 1.5),
        ("rankport_model_serving", {"model": MODEL}, 0),
        # The prefix is computed once; each request is three items of six tokens.
        ("rankport_pass_tokens_total", {"model": MODEL, "device": "cpu", "stage": "prefill"}, 2),
        ("rankport_pass_tokens_total", {"model": MODEL, "device": "cpu", "stage": "score"}, 12),
        ("rankport_pass_runs_total", {"model": MODEL, "device": "cpu", "stage": "score"}, 6),
        ("rankport_queue_seconds_count", {"model": MODEL, "device": "cpu"}, 2),
        ("rankport_compute_seconds_bucket", {"model": MODEL, "device": "cpu", "le": "+Inf"}, 2),
        ("rankport_queue_requests", {"model": MODEL, "device": "cpu"}, 0),
        ("rankport_failed_passes_total", {"model": MODEL, "device": "cpu"}, 0),
        ("rankport_device_passes_total", {"model": MODEL, "device": "cpu", "start": "recorded"}, 21),
        ("rankport_device_passes_total", {"model": MODEL, "device": "cpu", "start": "replayed"}, 22),
        ("rankport_recording_seconds_total", {"model": MODEL, "device": "cpu"}, 2.5),
        ("rankport_id_rows_total", {"model": MODEL, "device": "cpu", "found": "device"}, 23),
        ("rankport_id_rows_total", {"model": MODEL, "device": "cpu", "found": "host"}, 24),
        ("rankport_id_rows_kept", {"model": MODEL, "device": "cpu"}, 25),
        ("rankport_prefix_cache_lookups_total", {"model": MODEL}, 2),
        ("rankport_prefix_cache_hits_total", {"model": MODEL}, 1),
        ("rankport_prefix_tokens_total", {"model": MODEL, "source": "cached"}, 2),
        ("rankport_score_cache_items_total", {"found": "hit"}, 10),
        ("rankport_score_cache_bytes", {}, 13),
        ("rankport_shortened_requests_total", {"model": MODEL}, 1),
        ("rankport_store_keys_total", {"model": MODEL, "found": "missing"}, 3),
        ("rankport_table_ids_total", {"model": MODEL, "table": "item", "found": "row"}, 26),
        ("rankport_table_ids_total", {"model": MODEL, "table": "item", "found": "unknown"}, 27),
        ("rankport_store_kept_keys", {"model": MODEL, "memory": "device"}, 7),
    ],
)
def test_a_metric_has_its_counters_value(
    values: dict[Any, float], name: str, labels: dict[str, str], value: float
) -> None:
    assert values[name, frozenset(labels.items())] == value


def test_padding_is_never_less_than_the_tokens(values: dict[Any, float]) -> None:
    of = frozenset({"model": MODEL, "device": "cpu", "stage": "score"}.items())
    assert values["rankport_pass_padded_tokens_total", of] >= values["rankport_pass_tokens_total", of]
