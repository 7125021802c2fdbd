"""Metrics of models: their engines' passes and queues, prefix cache, store, and the devices' time and memory."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily as Histogram
from prometheus_client.core import Metric

from rankport.runtime.backends.devices.cuda.gpus import gpu_memory
from rankport.runtime.histogram import HistogramCounts
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.server.observing.state import ServerState

_ENGINE = ("model", "device")
Engines = Sequence[tuple[tuple[str, str], EngineCounts]]
"""Counters of engines, each by its model and what it runs on."""


def model_metrics(state: ServerState) -> Iterator[Metric]:
    """Makes the metrics of all models."""
    engines = [
        ((name, on), engine) for name, counts in state.counts.items() for on, engine in counts.engines.items()
    ]
    yield from _models(state)
    yield from _passes(engines)
    yield from _queues(engines)
    yield from _times(engines)
    yield from _caches(state)
    yield from _stores(state)
    yield from _ids(state)
    yield from _memory(engines)


def add_histogram(family: Histogram, labels: Sequence[str], counts: HistogramCounts) -> None:
    """Adds a histogram to its family."""
    edges = [*(f"{edge:g}" for edge in counts.edges), "+Inf"]
    family.add_metric(labels, list(zip(edges, counts.upward(), strict=True)), counts.total)


def _models(state: ServerState) -> Iterator[Metric]:
    info = Gauge(
        "rankport_model_info",
        "Model that is served.",
        labels=("model", "version", "kind", "precision", "fingerprint"),
    )
    serving = Gauge("rankport_model_serving", "1 where a model can take requests.", labels=("model",))
    for name, model in state.models.items():
        info.add_metric((name, model.version, model.kind, model.precision, model.fingerprint[:12]), 1)
        serving.add_metric((name,), 0 if {name, model.name, ""} & state.reasons.keys() else 1)
    yield from (info, serving)


def _passes(engines: Engines) -> Iterator[Metric]:
    labels = (*_ENGINE, "stage")
    passes = Counter("rankport_passes", "Passes of the device.", labels=labels)
    runs = Counter("rankport_pass_runs", "Prefixes, items or texts in passes.", labels=labels)
    tokens = Counter("rankport_pass_tokens", "Tokens in passes.", labels=labels)
    padded = Counter("rankport_pass_padded_tokens", "Tokens in passes, padding included.", labels=labels)
    for names, engine in engines:
        for stage, counts in engine.stages.items():
            passes.add_metric((*names, stage), counts.passes)
            runs.add_metric((*names, stage), counts.runs)
            tokens.add_metric((*names, stage), counts.tokens)
            padded.add_metric((*names, stage), counts.padded_tokens)
    yield from (passes, runs, tokens, padded)
    failed = Counter("rankport_failed_passes", "Passes that failed on the device.", labels=_ENGINE)
    busy = Counter("rankport_device_busy_seconds", "Seconds with a pass under way.", labels=_ENGINE)
    requests = Histogram("rankport_pass_requests", "Requests that share a pass.", labels=_ENGINE)
    for names, engine in engines:
        failed.add_metric(names, engine.failed_passes)
        busy.add_metric(names, engine.busy_s)
        add_histogram(requests, names, engine.pass_requests)
    yield from (failed, busy, requests)
    yield from _recordings(engines)
    yield from _rows(engines)


def _recordings(engines: Engines) -> Iterator[Metric]:
    started = Counter(
        "rankport_device_passes",
        "Passes of a ranker's GPU, by how their kernels were started.",
        labels=(*_ENGINE, "start"),
    )
    seconds = Counter("rankport_recording_seconds", "Seconds spent on recording passes.", labels=_ENGINE)
    for names, engine in engines:
        if (counts := engine.recordings) is not None:
            started.add_metric((*names, "launched"), counts.launched)
            started.add_metric((*names, "recorded"), counts.recorded)
            started.add_metric((*names, "replayed"), counts.replayed)
            seconds.add_metric(names, counts.recording_s)
    yield from (started, seconds)


def _rows(engines: Engines) -> Iterator[Metric]:
    needed = Counter(
        "rankport_id_rows",
        "Rows of id tables that passes needed, by where they were.",
        labels=(*_ENGINE, "found"),
    )
    kept = Gauge("rankport_id_rows_kept", "Rows of id tables that are kept on the device.", labels=_ENGINE)
    for names, engine in engines:
        if (counts := engine.rows) is not None:
            needed.add_metric((*names, "device"), counts.resident)
            needed.add_metric((*names, "host"), counts.sent)
            kept.add_metric(names, counts.kept)
    yield from (needed, kept)


def _queues(engines: Engines) -> Iterator[Metric]:
    waiting = Gauge("rankport_queue_requests", "Requests that wait for their first pass.", labels=_ENGINE)
    tokens = Gauge("rankport_queue_tokens", "Tokens of these.", labels=_ENGINE)
    active = Gauge("rankport_active_requests", "Requests that take part in passes.", labels=_ENGINE)
    silent = Gauge("rankport_silent_seconds", "Seconds since a busy engine's last step.", labels=_ENGINE)
    for names, engine in engines:
        waiting.add_metric(names, engine.queue.waiting_requests)
        tokens.add_metric(names, engine.queue.waiting_tokens)
        active.add_metric(names, engine.queue.active_requests)
        silent.add_metric(names, engine.silent_s)
    yield from (waiting, tokens, active, silent)
    background = Gauge(
        "rankport_queue_background_requests",
        "Those of the waiting that are in the background.",
        labels=_ENGINE,
    )
    background_tokens = Gauge("rankport_queue_background_tokens", "Tokens of these.", labels=_ENGINE)
    for names, engine in engines:
        background.add_metric(names, engine.queue.background.requests)
        background_tokens.add_metric(names, engine.queue.background.tokens)
    yield from (background, background_tokens)


def _times(engines: Engines) -> Iterator[Metric]:
    queue = Histogram("rankport_queue_seconds", "Time of a request outside its passes.", labels=_ENGINE)
    compute = Histogram("rankport_compute_seconds", "Time of a request in its passes.", labels=_ENGINE)
    for names, engine in engines:
        add_histogram(queue, names, engine.queue_s)
        add_histogram(compute, names, engine.compute_s)
    yield from (queue, compute)


def _caches(state: ServerState) -> Iterator[Metric]:
    model = ("model",)
    lookups = Counter("rankport_prefix_cache_lookups", "Prefixes looked up.", labels=model)
    hits = Counter("rankport_prefix_cache_hits", "Those found in part or whole.", labels=model)
    tokens = Counter("rankport_prefix_tokens", "Tokens of prefixes, by source.", labels=("model", "source"))
    evictions = Counter("rankport_prefix_cache_evictions", "Parts dropped for room.", labels=model)
    held = Gauge("rankport_prefix_cache_bytes", "Bytes held.", labels=model)
    budget = Gauge("rankport_prefix_cache_budget_bytes", "Bytes that may be held.", labels=model)
    for name, counts in state.counts.items():
        if (cache := counts.cache) is not None:
            lookups.add_metric((name,), cache.lookups)
            hits.add_metric((name,), cache.hits)
            tokens.add_metric((name, "cached"), cache.tokens_reused)
            tokens.add_metric((name, "computed"), cache.tokens_computed)
            evictions.add_metric((name,), cache.evictions)
            held.add_metric((name,), cache.bytes)
            budget.add_metric((name,), cache.budget_bytes)
    yield from (lookups, hits, tokens, evictions, held, budget)


def _stores(state: ServerState) -> Iterator[Metric]:
    keys = Counter(
        "rankport_store_keys", "Keys asked for, by where their tokens were.", labels=("model", "found")
    )
    kept = Gauge(
        "rankport_store_kept_keys", "Keys whose tokens are kept in memory.", labels=("model", "memory")
    )
    for name, counts in state.counts.items():
        if (store := counts.store) is not None:
            keys.add_metric((name, "host"), store.host_keys)
            keys.add_metric((name, "store"), store.store_keys)
            keys.add_metric((name, "device"), store.device_keys)
            keys.add_metric((name, "missing"), store.missing_keys)
            kept.add_metric((name, "host"), store.host_kept)
            kept.add_metric((name, "device"), store.device_kept)
    yield from (keys, kept)


def _ids(state: ServerState) -> Iterator[Metric]:
    asked = Counter(
        "rankport_table_ids",
        "Ids that a table was asked for, by whether they have a row.",
        labels=("model", "table", "found"),
    )
    for name, counts in state.counts.items():
        for table, ids in counts.ids.items():
            asked.add_metric((name, table, "row"), ids.found)
            asked.add_metric((name, table, "unknown"), ids.unknown)
    yield asked


def _memory(engines: Engines) -> Iterator[Metric]:
    """Asks the GPUs that engines run on; the memory of the CPU is the process's."""
    family = Gauge(
        "rankport_device_memory_bytes", "Memory of a GPU, by all processes.", labels=("gpu", "state")
    )
    numbers = {on.partition(":")[2].split()[0] for (_, on), _ in engines if ":" in on}
    for number in sorted(numbers):
        memory = gpu_memory(int(number))
        if memory is not None:
            family.add_metric((number, "used"), memory.used_bytes)
            family.add_metric((number, "total"), memory.total_bytes)
    yield family
