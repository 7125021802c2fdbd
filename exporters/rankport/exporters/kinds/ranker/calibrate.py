"""Quantization as a step of an export: calibration on real requests, and the record of what was done.

Repeatable: the same checkpoint, recipe and calibration file give the same low-bit model, so that `verify` can make it
again and measure a bundle against it.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.ranker.read_out import readout_of
from rankport.exporters.kinds.ranker.reference import RankerReference
from rankport.exporters.options.options import StrPath
from rankport.exporters.options.requests_file import parse_item, parse_line, parse_prefix, read_lines
from rankport.exporters.quantization.calibration import Calibration as Watched
from rankport.exporters.quantization.calibration import calibrate
from rankport.exporters.quantization.facts import QuantizationFacts
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import RECIPES, Recipe
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import CheckpointError, InvalidRequest, RankportError
from rankport.protos.types import Item, Prefix
from rankport.runtime.bundle.manifest import Calibration, ManifestDraft, Quantization, QuantizedPart
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.store import TokenStore
from rankport.runtime.tokens import TokenRun

_MOST_REQUESTS = 256
_MOST_ITEMS = 8
"""Of a request: more would weigh its prefix, which every item repeats, too much."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """One real request to calibrate on."""

    prefix: Prefix
    items: tuple[Item, ...]
    place: str  # file and line


def record(facts: QuantizationFacts | None, calibration: Calibration | None = None) -> Quantization | None:
    """The manifest's record of what is low-bit; `by` says whether the checkpoint came so."""
    if facts is None:
        return None
    return Quantization(
        by="export" if facts.format in RECIPES else "checkpoint",
        method=facts.method,
        format=facts.format,
        parts=[QuantizedPart(**dataclasses.asdict(scheme)) for scheme in facts.schemes],
        kept=list(facts.kept),
        calibration=calibration,
    )


def quantize_checkpoint(
    source: Checkpoint,
    draft: ManifestDraft,
    tokenizer: Tokenizer | None,
    recipe: Recipe,
    calibration: StrPath | None,
    store: StrPath | None,
    on_progress: Progress,
) -> tuple[Checkpoint, Quantization]:
    """Quantizes the model of `source` in place. `draft` says how requests become tokens.

    Raises:
        CheckpointError: the checkpoint is quantized already, or has nothing to quantize.
        InvalidRequest: the calibration file cannot be used; the message names the line.
    """
    if source.quantization is not None:
        raise CheckpointError(
            f"--quantize {recipe.name}: the checkpoint is quantized already ({source.quantization.method}, "
            f"{source.quantization.format}), which is kept: leave --quantize out, or export the original"
        )
    watched, used = None, None
    if calibration is not None:
        requests = read_requests(Path(calibration))[:_MOST_REQUESTS]
        runs = _token_runs(requests, draft, tokenizer, store)
        watched = _watch(source, draft, runs, on_progress)
        used = Calibration(
            requests=len(requests), tokens=watched.tokens, sha256=file_sha256(Path(calibration))
        )
    facts = quantize(
        source.model,
        recipe,
        watched,
        lambda done, total: on_progress(f"quantizing to {recipe.name}: layer {done}/{total}"),
    )
    made = record(facts, used)
    assert made is not None
    return dataclasses.replace(source, quantization=facts), made


def file_sha256(path: Path) -> str:
    """Of a whole file. Raises InvalidRequest if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequest(f"calibration requests {str(path)!r} cannot be read: {error}") from error


def read_requests(path: Path) -> list[Request]:
    """JSONL of {"prefix": ..., "items": [...]}; judged requests serve too. Raises InvalidRequest naming the line."""
    return [_parse(line, place) for line, place in read_lines(path, "calibration requests")]


def _parse(line: str, place: str) -> Request:
    row = parse_line(line, place)
    if not isinstance(row, dict) or not {"prefix", "items"} <= set(row) <= {"prefix", "items", "gains"}:
        raise InvalidRequest(f"{place}: needs the keys prefix and items (and may have gains)")
    if not isinstance(row["items"], list) or not row["items"]:
        raise InvalidRequest(f"{place}: items must be a list of at least one item")
    items = tuple(parse_item(item, place) for item in row["items"])
    return Request(parse_prefix(row["prefix"], place), items, place)


def _token_runs(
    requests: Sequence[Request], draft: ManifestDraft, tokenizer: Tokenizer | None, store: StrPath | None
) -> list[tuple[TokenRun, list[TokenRun]]]:
    prompt = PromptEncoder(draft, tokenizer)
    opened = None if store is None else TokenStore.open(store, read_only=True)
    try:
        keyed = KeyedItems(draft, None if opened is None else paired_tokens(opened, draft))
        runs = []
        for request in requests:
            try:
                items = ItemColumns.of(request.items[:_MOST_ITEMS])
                tokens = keyed.resolve(items.keys, "fail", items.count)
                prefix = prompt.encode_prefix(request.prefix, "truncate").run
                runs.append((prefix, list(prompt.encode_items(items, "truncate", tokens).runs)))
            except RankportError as error:
                raise type(error)(f"{request.place}: {error}") from error
        return runs
    finally:
        if opened is not None:
            opened.close()


def _watch(
    source: Checkpoint,
    draft: ManifestDraft,
    runs: Sequence[tuple[TokenRun, list[TokenRun]]],
    on_progress: Progress,
) -> Watched:
    assert draft.labels is not None
    reference = RankerReference(source, readout_of(draft.labels))

    def run() -> None:
        for done, (prefix, items) in enumerate(runs, 1):
            on_progress(f"calibrating on requests {done}/{len(runs)}")
            reference.logits(prefix, items)

    return calibrate(source.model, run)
