"""Any front tells the metrics of all, and HTTP answers as gRPC does."""

import json
import urllib.request

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.processes.supervisor import Supervisor
from support.servers.callers import callers, ended
from support.servers.supervised import eventually

ITEMS = ["nurse", "welder", "chief cook"]


def page(server: Supervisor, address: str = "") -> dict[str, list[tuple[dict[str, str], float]]]:
    with urllib.request.urlopen(f"http://{address or server.http_address}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.name: [(each.labels, each.value) for each in family.samples if each.name == sample.name]
            for family in families
            for sample in family.samples
        }


def answered(server: Supervisor) -> float:
    """Calls of Score that were answered, by all fronts."""
    calls = page(server).get("rankport_calls_total", [])
    return sum(value for labels, value in calls if labels["code"] == "OK" and "Score" in labels["method"])


def test_any_front_tells_the_calls_of_all_and_the_passes_of_the_engine(server: Supervisor) -> None:
    eventually(lambda: server.all_answer)
    before = answered(server)
    with callers(server.address, 10) as calling:
        for call in calling.begin(ITEMS):
            ended(call)
    for _ in range(4):
        eventually(lambda: answered(server) == before + 10)
    now = page(server, f"127.0.0.1:{server.metrics_port}")
    assert {labels["process"] for labels, _ in now["rankport_pending_requests"]} == {"front 0", "front 1"}
    passes = [labels for labels, _ in now["rankport_passes_total"] if labels["model"].startswith("mix@")]
    assert {labels["stage"] for labels in passes} == {"prefill", "score"}
    assert len(passes) == 2
    assert all("process" not in labels for labels in passes)


def test_http_answers_by_the_same_engine(server: Supervisor, ranker: Ranker) -> None:
    body = {"model": "mix", "query": "head nurse", "documents": ITEMS}
    request = urllib.request.Request(
        f"http://{server.http_address}/v1/rerank",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        results = json.loads(answer.read())["results"]
    expected = ranker.score("head nurse", ITEMS).scores
    scores = {result["index"]: result["relevance_score"] for result in results}
    np.testing.assert_allclose([scores[index] for index in range(3)], expected, rtol=0, atol=1e-5)
