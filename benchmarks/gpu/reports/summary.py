"""The report in a few lines: what the issue asks for, and against whom."""

from collections.abc import Iterator
from typing import Any

Figures = dict[str, Any]
_RATED = ("in_process", "resident", "served", "served_fronts", "peers", "compiled_peers")
_SERVED = {"served": "", "served_fronts": "fronts, "}
"""Modules whose best step alone is told, and what goes before it."""
_TOLD_WHOLE = (
    "ceilings",
    "self_test",
    "conformance",
    "fresh",
    "operators",
    "build_plans",
    "encoding",
    "encode_job",
    "text_kinds",
    "lists",
    "set_ranking",
    "set_peers",
)
_SHOWN = {
    "mfu": "of the ceiling",
    "useful_mfu": "of the ceiling, as far as useful",
    "callers": "callers",
    "p50_ms": "ms p50",
    "p99_ms": "ms p99",
    "one_query_p50_ms": "ms p50 of one query",
    "one_query_p99_ms": "ms p99 of one query",
    "power_w": "W",
    "j_per_1000_items": "J a thousand items",
    "server_cores": "cores of the server",
    "busiest_process_cores": "of its busiest process",
}
_OURS = "engine, fresh prefixes"


def summary(report: Figures) -> list[str]:
    """Lines; what was not measured is left out."""
    parts: dict[str, Figures] = {name: part.get("figures", {}) for name, part in report["parts"].items()}
    lines = [f"commit {report['commit']}, device {report['device']}, engine {report['engine']}"]
    for name, figures in parts.items():
        module = name.split(" ", 1)[0]
        if module in _TOLD_WHOLE:
            lines += [f"{name}: {figure}: {_told(value)}" for figure, value in figures.items()]
        lines += _trained(name, figures) if module == "trained" else []
        lines += _parity(name, figures) if module in ("reference", "parity") else []
    lines += _beside_torch(parts)
    for request in _requests(parts):
        lines += _rates(parts, request)
    return lines + [_ended(name, part) for name, part in report["parts"].items()]


def _beside_torch(parts: dict[str, Figures]) -> Iterator[str]:
    """Rankers of sets beside the same ones in torch, histories kept by both."""
    ours, theirs = (_of(parts, module) for module in ("set_ranking", "set_peers"))
    for name, value in theirs.items():
        case, _, way = name.partition(", torch compiled, ")
        if mine := ours.get(f"{case}, {way}"):
            ratio = mine["candidates_per_s"] / value["candidates_per_s"]
            yield f"set_ranking: {case}, {way}: {ratio:.2f} x torch compiled"


def _of(parts: dict[str, Figures], module: str) -> Figures:
    """Figures of the part of a module; none where it did not run."""
    return next((figures for name, figures in parts.items() if name.split(" ", 1)[0] == module), {})


def _ended(name: str, part: Figures) -> str:
    """How a part ended, and its seconds; one that an earlier call began and this one skipped says both."""
    ways = [str(part[key]) for key in ("outcome", "skipped") if key in part]
    return f"{name}: {', skipped: '.join(ways)}, {part.get('seconds', 0)} of {part.get('most_s', 0):.0f} s"


def _told(value: object) -> str:
    if not isinstance(value, dict):
        return f"{value:,.4g}" if isinstance(value, float) else str(value)
    return ", ".join(f"{name} {_told(one)}" for name, one in value.items())


def _requests(parts: dict[str, Figures]) -> list[str]:
    found = (
        name.split(" ", 1)[0]
        for part, figures in parts.items()
        if part.split(" ", 1)[0] in _RATED
        for name, value in figures.items()
        if isinstance(value, dict) and name != "load"
    )
    return list(dict.fromkeys(found))


def _trained(name: str, figures: Figures) -> Iterator[str]:
    modes = _modes(figures)
    if modes:
        tau = min(modes, key=lambda mode: modes[mode]["kendall_tau"])
        yield (
            f"{name}, {len(modes)} modes, passed {figures.get('passed')}: lowest tau "
            f"{modes[tau]['kendall_tau']:.4f} ({tau}), on judged requests "
            f"{modes.get('judged', {}).get('kendall_tau')}, quality {figures.get('quality')}"
        )


def _parity(name: str, figures: Figures) -> Iterator[str]:
    modes = _modes(figures)
    if not modes:
        return
    tau = min(modes, key=lambda mode: modes[mode]["kendall_tau"])
    error = max(modes, key=lambda mode: modes[mode]["max_abs_error"])
    yield (
        f"{name}, with fp32 over {len(modes)} modes: lowest tau {modes[tau]['kendall_tau']:.4f} ({tau}), "
        f"largest error {modes[error]['max_abs_error']:.4f} ({error}), "
        f"largest relative error {max(mode['relative_error'] for mode in modes.values()):.4f}"
    )


def _modes(figures: Figures) -> dict[str, Figures]:
    return {
        mode: value for mode, value in figures.items() if isinstance(value, dict) and "kendall_tau" in value
    }


def _rates(parts: dict[str, Figures], request: str) -> Iterator[str]:
    """Figures of a request by contender and form, then each form's engine beside the peers."""
    rates: dict[str, float] = {}
    for part, figures in parts.items():
        module, _, rest = part.partition(" ")
        form = rest.partition(" ")[2]
        for name, value in figures.items() if module in _RATED else ():
            contender = name.removeprefix(f"{request} ")
            if contender == name or not isinstance(value, dict):
                continue
            if module in _SERVED and not contender.startswith("best"):
                continue
            label = f"{form} {_SERVED.get(module, '')}{contender}".strip()
            if "items_per_s" in value:
                rates[label] = value["items_per_s"]
                yield f"{request}: {label}: {value['items_per_s']:,.0f} items/s{_beside(value)}"
            elif contender.endswith("alone"):
                yield f"{request}: {label}: {_told(value)}"
    for label, ours in rates.items():
        if label.endswith(_OURS):
            others = {name: ours / rate for name, rate in rates.items() if _is_peer(name) and rate}
            yield from (f"{request}: {label} is {ratio:.2f} x {name}" for name, ratio in others.items())


def _beside(value: Figures) -> str:
    shown = (
        f", {value[key]:.1%} {words}" if key.endswith("mfu") else f", {value[key]:.4g} {words}"
        for key, words in _SHOWN.items()
        if isinstance(value.get(key), int | float)
    )
    return "".join(shown)


def _is_peer(name: str) -> bool:
    return name.startswith(("transformers", "compiled"))
