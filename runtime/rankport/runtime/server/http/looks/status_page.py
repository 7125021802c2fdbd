"""Status page: what is served, how it goes, and what went wrong last. It shows no text of any request."""

import time
from collections.abc import Iterable, Sequence
from html import escape

from rankport.protos.types import ModelDescription
from rankport.protos.versions import ModelAlias, ModelState, ModelVersion
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.looks.health import Health
from rankport.runtime.server.http.looks.page import page

_REFRESH_S = 5


def status_page(core: Core, health: Health, up_s: float) -> str:
    """Writes the page of a server that has run for `up_s` seconds."""
    parts = [
        _tiles(core, health, up_s),
        _models(core, health),
        _outcomes(core),
        _engines(core),
        _caches(core),
        _failures(core),
    ]
    return page("Status", "".join(parts), _REFRESH_S)


def _tiles(core: Core, health: Health, up_s: float) -> str:
    now, most = core.state(), core.config.max_pending_calls
    status = "stopping" if health.stopping else "ready" if health.ready else "not ready"
    times = core.observer.recent.seconds(50, 95, 99)
    tiles = [
        (f'<span class="{"good" if health.ready else "bad"}">{status}</span>', "state"),
        (_duration(up_s), "up"),
        (f"{now.pending_requests} / {most}", "requests pending"),
        (_mebibytes(now.pending_bytes), "bytes pending"),
        *(
            (f"{1000 * value:.1f} ms", name)
            for value, name in zip(times, ("p50", "p95", "p99"), strict=False)
        ),
    ]
    shown = "".join(f"<div class=tile><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    note = "<p class=soft>Times are those of the last 1,000 answers, in the server.</p>" if times else ""
    return f"<div class=tiles>{shown}</div>{note}"


def _models(core: Core, health: Health) -> str:
    described = {f"{model.name}@{model.version}": model for model in core.models.descriptions()}
    told = core.models.told()
    rows = [_version_row(version, described.get(version.model), health) for version in told.versions]
    head = (
        "name",
        "version",
        "state",
        "requests now",
        "kind",
        "precision",
        "takes",
        "score",
        "fingerprint",
    )
    return _table("Models", head, rows) + _aliases(told.aliases)


def _version_row(version: ModelVersion, model: ModelDescription | None, health: Health) -> list[str]:
    good = version.state is ModelState.READY and health.alive.get(version.name, True)
    state = version.state if good or version.state is not ModelState.READY else "does not answer"
    shown = f'<span class="{"good" if good else "bad"}">{escape(state)}</span> {escape(version.reason)}'
    cells = [
        escape(version.name),
        escape(version.version),
        shown,
        f"{version.requests:,}",
        escape(version.kind),
    ]
    if model is None:
        return [*cells, "", "", "", ""]
    score = f"{model.score_kind}: {model.read_out}" if model.score_kind else model.read_out
    takes = ", ".join(model.item_forms or model.features)
    said = (model.precision, takes, score)
    return [*cells, *map(escape, said), f"<code>{model.fingerprint[:12]}</code>"]


def _aliases(aliases: Sequence[ModelAlias]) -> str:
    rows = [[escape(alias.alias), escape(_shares(alias))] for alias in aliases]
    return _table("Aliases", ("alias", "stands for"), rows) if rows else ""


def _shares(alias: ModelAlias) -> str:
    total = sum(target.weight for target in alias.targets)
    return ", ".join(f"{target.model} {100 * target.weight / total:.0f} %" for target in alias.targets)


def _outcomes(core: Core) -> str:
    counts = core.admission.counts.snapshot()
    return _table("Calls since the start", tuple(counts), [[f"{number:,}" for number in counts.values()]])


def _engines(core: Core) -> str:
    rows = [
        [escape(name), escape(place), *_engine_cells(engine)]
        for name, counts in sorted(core.models.counts().items())
        for place, engine in counts.engines.items()
    ]
    head = ("model", "engine", "waiting", "tokens waiting", "active", "passes", "failed", "busy", "now")
    return _table("Queues", head, rows) if rows else ""


def _engine_cells(engine: EngineCounts) -> list[str]:
    passes = sum(stage.passes for stage in engine.stages.values())
    now = f"{engine.doing}, for {engine.silent_s:.1f} s" if engine.silent_s >= 1 else "goes on"
    return [
        f"{engine.queue.waiting_requests:,}",
        f"{engine.queue.waiting_tokens:,}",
        f"{engine.queue.active_requests:,}",
        f"{passes:,}",
        f"{engine.failed_passes:,}",
        f"{engine.busy_s:,.1f} s",
        escape(now),
    ]


def _caches(core: Core) -> str:
    counts = sorted(core.models.counts().items())
    rows = [[escape(name), *_cache_cells(each.cache)] for name, each in counts if each.cache is not None]
    head = ("model", "lookups", "hits", "tokens reused", "tokens computed", "held", "budget", "evictions")
    return _table("Prefix caches", head, rows) if rows else ""


def _cache_cells(stats: CacheStats) -> list[str]:
    hits = f"{100 * stats.hits / stats.lookups:.0f} %" if stats.lookups else "–"
    return [
        f"{stats.lookups:,}",
        hits,
        f"{stats.tokens_reused:,}",
        f"{stats.tokens_computed:,}",
        _mebibytes(stats.bytes),
        _mebibytes(stats.budget_bytes),
        f"{stats.evictions:,}",
    ]


def _failures(core: Core) -> str:
    rows = [
        [_moment(failure.unix_s), escape(failure.name), escape(failure.message)]
        for failure in core.observer.recent.failures()
    ]
    if not rows:
        return "<h2>Last failures</h2><p class=soft>None of the server's own.</p>"
    return _table("Last failures", ("at (UTC)", "error", "message"), rows)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table; cells are HTML."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><div class=wide><table><tr>{titles}</tr>{cells}</table></div>"


def _mebibytes(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.1f} MiB"


def _moment(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60) % 60, int(seconds // 3600) % 24, int(seconds // 86400)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min"
