"""Measures beside their limits, in words: once for the terminal, the page and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankport.runtime.bundle.manifest import Agreement, Manifest, ModeParity, Parity, Quality


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured value, and what it had to reach."""

    name: str
    value: str
    limit: str = ""  # empty where nothing is asked
    holds: bool = True


def agreement_measures(agreement: Agreement) -> list[Measure]:
    """Lists what was measured of an agreement with the owner's pipeline."""
    rows = [
        _most("max abs error", agreement.max_abs_error, agreement.max_abs_tolerance),
        _most("mean abs error", agreement.mean_abs_error, None),
        _least("Kendall tau, mean over requests", agreement.kendall_tau, agreement.min_kendall_tau),
        _least("Pearson r", agreement.pearson, None),
        _least("least cosine", agreement.least_cosine, agreement.min_cosine),
    ]
    return [row for row in rows if row is not None]


def agreement_in_words(agreement: Agreement) -> str:
    """Says what was compared, and how much of it."""
    how = {"none": "as it is", "rank": "by order alone"}.get(agreement.transform, f"by {agreement.transform}")
    cut = f", {agreement.truncated} cut to the bundle's limits" if agreement.truncated else ""
    if agreement.compared == "scores":
        return f"{agreement.items} scores of {agreement.requests} requests, yours taken {how}{cut}"
    return f"{agreement.items} {agreement.compared}, yours taken {how}{cut}"


def parity_in_words(parity: Parity) -> str:
    """Says which graphs were compared with what, and on how much."""
    ran = f"{parity.backend} {parity.precision}"
    return f"{ran}, against {compared_with(parity)}, on {amount(parity.modes, None)}"


def targets_in_words(manifest: Manifest) -> str:
    """Says what the graphs for each target compute with, and which GPUs have that where not all do."""
    return ", ".join(f"{target} {_numbers(manifest.for_target(target))}" for target in manifest.targets)


def _numbers(view: Manifest) -> str:
    fp8 = any(graph.fp8_products for graph in view.graphs)
    return f"{view.precision} with fp8 by fp8 (compute capability 8.9)" if fp8 else view.precision


def compared_with(parity: Parity) -> str:
    """Names the source of the comparison."""
    return parity.reference or "the checkpoint in torch (older bundles do not say more)"


def amount(modes: Sequence[ModeParity], quality: Quality | None) -> str:
    """Says on how many requests and items the modes were measured."""
    sampled = [mode for mode in modes if mode.mode != "judged"]
    items = max((mode.items for mode in sampled), default=0)
    requests = max((mode.requests or 0 for mode in sampled), default=0)
    said = f"{requests} sample requests of {items} items" if requests else f"{items} sample items"
    return f"{said} in each mode" + ("" if quality is None else f", and {quality.requests} judged requests")


def quality_rows(quality: Quality) -> list[tuple[str, str, str]]:
    """Lists NDCG of source and bundle, their difference, and what it may be."""
    first, tenth = quality.ndcg_at_1_bundle, quality.ndcg_at_10_bundle
    rows = [
        ("source", f"{quality.ndcg_at_1_source:.4f}", f"{quality.ndcg_at_10_source:.4f}"),
        ("bundle", f"{first:.4f}", f"{tenth:.4f}"),
        (
            "difference",
            f"{first - quality.ndcg_at_1_source:+.4f}",
            f"{tenth - quality.ndcg_at_10_source:+.4f}",
        ),
    ]
    limit = "" if quality.max_ndcg_loss is None else f"{quality.max_ndcg_loss:g}"
    return [*rows, ("largest loss allowed", limit, limit)] if limit else rows


def _most(name: str, value: float | None, limit: float | None) -> Measure | None:
    if value is None:
        return None
    holds = limit is None or value <= limit
    return Measure(name, f"{value:.2e}", "" if limit is None else f"≤ {limit:.1e}", holds)


def _least(name: str, value: float | None, limit: float | None) -> Measure | None:
    if value is None:
        return None
    holds = limit is None or value >= limit
    return Measure(name, f"{value:.6f}", "" if limit is None else f"≥ {limit:g}", holds)
