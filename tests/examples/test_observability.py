"""Dashboard and alert rules ask for metrics and labels that a server really exports."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from rankport.runtime.nearline.consumer import NearlineCounts
from rankport.runtime.nearline.status_page import metrics
from rankport.runtime.nearline.stream import Backlog
from rankport.runtime.server.observing.joined_pages import joined, restarts_page
from support.metric_pages import metric_page

FOLDER = Path(__file__).parents[2] / "examples" / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    },
    **{rule["alert"]: rule["expr"] for rule in RULES},
}
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""
NO_GPU_HERE = {"rankport_device_memory_bytes": {"gpu", "state"}}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Labels of each metric, by the name of its samples."""
    of_processes = joined({"front 0": restarts_page({"hung": 1})}, "front 0")
    page = metric_page()
    assert all(f"# TYPE {name} gauge\n" in page for name in NO_GPU_HERE)
    return {"up": set()} | labels_of(page) | labels_of(of_processes.decode()) | NO_GPU_HERE


@pytest.fixture(scope="module")
def of_nearline() -> dict[str, set[str]]:
    """Labels of each metric of `rankport nearline`."""
    consumer: Any = SimpleNamespace(counts=NearlineCounts(), trouble="")
    return labels_of(metrics(consumer, Backlog(1, 2.0)))


def labels_of(page: str) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Yields the metrics of a query with the labels that they are selected by."""
    for name, inner in re.findall(r"\b((?:rankport|process)_\w+|up)\b(?:\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inner))


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_every_query_asks_for_what_is_exported(
    query: str, exported: dict[str, set[str]], of_nearline: dict[str, set[str]]
) -> None:
    exported = exported | of_nearline
    found = list(selectors(query))
    assert found
    assert [name for name, _ in found if name not in exported] == []
    assert [
        (name, used - exported[name] - SCRAPED) for name, used in found if used - exported[name] - SCRAPED
    ] == []
    grouped = {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", query) for label in by.split(",")}
    have = set.intersection(*(exported[name] for name, _ in found)) | SCRAPED
    assert grouped <= have


def test_the_page_on_observing_lists_every_metric_and_no_other(exported: dict[str, set[str]]) -> None:
    page = (FOLDER.parents[2] / "docs" / "observing.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(rankport_\w+)`", page))
    histograms = {name.removesuffix("_bucket") for name in exported if name.endswith("_bucket")}
    parts = {f"{name}{end}" for name in histograms for end in ("_bucket", "_sum", "_count")}
    ours = {name for name in exported if name.startswith("rankport_") and not name.endswith("_created")}
    assert told == (ours - parts) | histograms


def test_panels_lie_beside_each_other_and_have_a_title_and_a_query() -> None:
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in DASHBOARD["panels"]]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(set(cells)) == len(cells)
    assert all(x + w <= 24 for x, _, w, _ in places)
    assert all(panel["title"] and panel["targets"] for panel in PANELS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "action"}
    labels = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    grouped = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    assert all(set(labels) <= {label.strip() for label in by.split(",")} for by in grouped if labels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
        ("check", "config", "prometheus.yaml"),
    ],
)
def test_promtool_takes_them(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
