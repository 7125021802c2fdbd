"""The report in a few lines: what the issue asks for, and against whom."""

from collections.abc import Iterator
from typing import Any

Figures = dict[str, Any]
_SHOWN = ("mfu", "useful_mfu", "callers", "p50_ms", "p99_ms")


def summary(report: Figures) -> list[str]:
    """Lines; what was not measured is left out."""
    parts: dict[str, Figures] = {name: part.get("figures", {}) for name, part in report["parts"].items()}
    lines = [f"commit {report['commit']}, device {report['device']}, engine {report['engine']}"]
    ceilings = parts.get("ceilings mixlm", {})
    lines += [f"{name}: {value}" for name, value in ceilings.items()]
    lines += [f"{name}: {value}" for name, value in parts.get("conformance mixlm", {}).items()]
    for name, figures in parts.items():
        lines += _trained(name, figures) if name.startswith("trained ") else []
    lines += [f"encoder: {name}: {value}" for name, value in parts.get("encoding mixlm", {}).items()]
    for model in ("mixlm", "slm"):
        lines += _parity(parts, model)
        for request in _requests(parts, model):
            lines += _rates(parts, model, request)
    lines += [
        f"{name}: {part.get('skipped') or part.get('outcome')}, {part.get('seconds', 0)} s"
        for name, part in report["parts"].items()
    ]
    return lines


def _requests(parts: dict[str, Figures], model: str) -> list[str]:
    found = (
        name.split(" ", 1)[0]
        for part in ("in_process", "resident", "served", "peers", "compiled_peers")
        for name, value in parts.get(f"{part} {model}", {}).items()
        if isinstance(value, dict) and name != "load"
    )
    return list(dict.fromkeys(found))


def _trained(name: str, figures: Figures) -> Iterator[str]:
    modes = {
        mode: value for mode, value in figures.items() if isinstance(value, dict) and "kendall_tau" in value
    }
    if modes:
        tau = min(modes, key=lambda mode: modes[mode]["kendall_tau"])
        yield (
            f"{name}, {len(modes)} modes, passed {figures.get('passed')}: lowest tau "
            f"{modes[tau]['kendall_tau']:.4f} ({tau}), on judged requests "
            f"{modes.get('judged', {}).get('kendall_tau')}, quality {figures.get('quality')}"
        )


def _parity(parts: dict[str, Figures], model: str) -> Iterator[str]:
    for label, part in (("transformers bf16", "reference"), ("bundle", "parity")):
        modes = {
            name: value
            for name, value in parts.get(f"{part} {model}", {}).items()
            if isinstance(value, dict) and "kendall_tau" in value
        }
        if not modes:
            continue
        tau = min(modes, key=lambda name: modes[name]["kendall_tau"])
        error = max(modes, key=lambda name: modes[name]["max_abs_error"])
        yield (
            f"{model} parity of {label} with fp32 over {len(modes)} modes: lowest tau "
            f"{modes[tau]['kendall_tau']:.4f} ({tau}), largest error {modes[error]['max_abs_error']:.4f} ({error}), "
            f"largest relative error {max(m['relative_error'] for m in modes.values()):.4f}"
        )


def _rates(parts: dict[str, Figures], model: str, request: str) -> Iterator[str]:
    rates: dict[str, float] = {}
    for part in ("in_process", "resident", "served", "peers", "compiled_peers"):
        for name, value in parts.get(f"{part} {model}", {}).items():
            if (
                not isinstance(value, dict)
                or "items_per_s" not in value
                or not name.startswith(f"{request} ")
            ):
                continue
            contender = name.removeprefix(f"{request} ")
            if part == "served" and not contender.startswith("best"):
                continue
            rates[contender] = value["items_per_s"]
            extra = ", ".join(
                f"{key} {value[key]:.3g}"
                for key in ("mfu", "useful_mfu", "callers", "p50_ms", "p99_ms")
                if key in value
            )
            yield f"{request}: {contender}: {value['items_per_s']:,.0f} items/s  {extra}"
    ours = rates.get("engine, fresh prefixes")
    if ours:
        others = {name: ours / rate for name, rate in rates.items() if _is_peer(name) and rate}
        yield from (f"{request}: engine is {ratio:.2f} x {name}" for name, ratio in others.items())


def _is_peer(name: str) -> bool:
    return name.startswith(("transformers", "compiled"))
