"""Books of a server: what its metrics must say once nobody asks it any more, and what its processes hold."""

import os
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

from support.metric_pages import metric_values

_LEFT_OVER = ("pending_requests", "pending_bytes", "queue_requests", "queue_tokens", "active_requests")


def metric_sums(http_address: str) -> Counter[str]:
    """Reads the metrics, summed over models and processes, by name and source."""
    with urlopen(f"http://{http_address}/metrics") as answer:
        page = answer.read().decode()
    sums: Counter[str] = Counter()
    for (name, labels), value in metric_values(page).items():
        source = dict(labels).get("source") or dict(labels).get("found")
        sums[name if source is None else f"{name} {source}"] += value
    return sums


def assert_engine_books_balance(sums: Counter[str]) -> None:
    """Nothing is left over, and the cache of prefixes holds what it may."""
    for left_over in _LEFT_OVER:
        assert sums[f"rankport_{left_over}"] == 0, left_over
    assert 0 < sums["rankport_prefix_cache_hits_total"] <= sums["rankport_prefix_cache_lookups_total"]
    assert 0 < sums["rankport_prefix_cache_bytes"] <= sums["rankport_prefix_cache_budget_bytes"]
    assert sums["rankport_prefix_tokens_total computed"] > 0
    assert sums["rankport_prefix_tokens_total cached"] > 0


def resident_bytes(*pids: int) -> int:
    """Memory that processes hold together."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(*pids: int) -> int:
    """Files, connections and the like that processes have open together."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def threads_of(*pids: int) -> int:
    """Threads of processes."""
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)
