"""Judged requests: a JSONL file of prefixes, items and gains, and the ranking quality measured on them.

One line: {"prefix": "text" | {field: text} | [token ids], "items": ["text" | [token ids] | {"key": id}, ...],
"gains": [number, ...]}. Quality is NDCG of the source and of the bundle over the same candidates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.ranker.modes import rank_value
from rankport.exporters.options.requests_file import parse_item, parse_line, parse_prefix, read_lines
from rankport.exporters.options.tolerance import EXACT_NDCG_LOSS, LOW_BIT_NDCG_LOSS, Tolerance
from rankport.exporters.proof.metrics import ndcg
from rankport.protos.errors import InvalidRequest, ParityError, RankportError
from rankport.protos.types import Item, Prefix
from rankport.runtime.bundle.manifest import Manifest, Quality
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.tokens import TokenRun

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class JudgedRequest:
    """One prefix, its candidates, and how relevant each is."""

    prefix: Prefix
    items: tuple[Item, ...]
    gains: tuple[float, ...]
    place: str  # file and line


def read_judged(path: Path) -> list[JudgedRequest]:
    """Raises InvalidRequest naming the line and what is wrong with it."""
    return [_parse(line, place) for line, place in read_lines(path, "judged requests")]


def _parse(line: str, place: str) -> JudgedRequest:
    row = parse_line(line, place)
    if not isinstance(row, dict) or set(row) != {"prefix", "items", "gains"}:
        raise InvalidRequest(f"{place}: needs exactly the keys prefix, items and gains")
    if not isinstance(row["items"], list) or not isinstance(row["gains"], list):
        raise InvalidRequest(f"{place}: items and gains must be lists")
    if len(row["items"]) != len(row["gains"]):
        raise InvalidRequest(f"{place}: {len(row['items'])} items but {len(row['gains'])} gains")
    if not all(_is_gain(gain) for gain in row["gains"]):
        raise InvalidRequest(f"{place}: gains must be numbers from 0 on, not {row['gains']}")
    if not any(gain > 0 for gain in row["gains"]):
        raise InvalidRequest(
            f"{place}: no item has a positive gain, so NDCG is undefined: leave the request out"
        )
    items = tuple(parse_item(item, place) for item in row["items"])
    return JudgedRequest(parse_prefix(row["prefix"], place), items, tuple(row["gains"]), place)


def _is_gain(gain: object) -> bool:
    return isinstance(gain, int | float) and not isinstance(gain, bool) and 0 <= gain < float("inf")


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A judged request as the bundle saw and answered it."""

    request: JudgedRequest
    prefix: TokenRun
    items: tuple[TokenRun, ...]
    logits: Logits


def run_judged(
    ranker: Ranker,
    requests: Sequence[JudgedRequest],
    on_request: Callable[[int], None] = lambda done: None,
) -> list[JudgedRun]:
    """Scores every request through the whole in-process runtime."""
    runs = []
    for done, request in enumerate(requests, 1):
        try:
            prefix, items = ranker.encode(request.prefix, request.items)
        except RankportError as error:
            raise type(error)(f"{request.place}: {error}") from error
        logits = ranker.score(request.prefix, request.items).logits
        runs.append(JudgedRun(request, prefix, tuple(items), logits))
        on_request(done)
    return runs


def quality_of(runs: Sequence[JudgedRun], expected: Sequence[Logits]) -> Quality:
    """NDCG of the source, whose logits are `expected`, and of the bundle."""

    def mean_ndcg(logits: Sequence[Logits], k: int) -> float:
        values = [
            ndcg(rank_value(rows), run.request.gains, k) for rows, run in zip(logits, runs, strict=True)
        ]
        return float(np.mean(values))

    actual = [run.logits for run in runs]
    return Quality(
        requests=len(runs),
        ndcg_at_1_source=mean_ndcg(expected, 1),
        ndcg_at_1_bundle=mean_ndcg(actual, 1),
        ndcg_at_10_source=mean_ndcg(expected, 10),
        ndcg_at_10_bundle=mean_ndcg(actual, 10),
    )


def require_quality(quality: Quality, tolerance: Tolerance, manifest: Manifest) -> None:
    """Raises ParityError if an NDCG of the bundle misses its source's by more than the tolerance.

    A bundle of equal maths must not differ in either direction; one that rounds may by more, and one quantized at
    export must not lose.
    """
    quantization = manifest.quantization
    lossy = quantization is not None and quantization.by == "export"
    rounded = manifest.precision != "fp32" or (quantization is not None and quantization.rounds_activations)
    allowed = tolerance.max_ndcg_loss
    if allowed is None:
        allowed = LOW_BIT_NDCG_LOSS if lossy or rounded else EXACT_NDCG_LOSS
    for k in (1, 10):
        source, bundle = getattr(quality, f"ndcg_at_{k}_source"), getattr(quality, f"ndcg_at_{k}_bundle")
        loss = source - bundle if lossy else abs(source - bundle)
        if not loss <= allowed:
            raise ParityError(
                f"NDCG@{k} is {bundle:.4f} for the bundle and {source:.4f} for its source: "
                f"more than --max-ndcg-loss {allowed} apart"
            )
