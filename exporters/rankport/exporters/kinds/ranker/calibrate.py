"""Calibration of a ranker: what its linear layers see of real requests, run as it will serve them.

Repeatable: the same checkpoint and file give the same sums, so that `verify` can make a low-bit model again and measure
a bundle against it. Another number of threads adds them up in another order: last bits of them, and of scales, differ.
"""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.label_head import readout_of
from rankport.exporters.kinds.ranker.pooled import pooled_reference
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.options.requests_file import RealRequest, read_requests
from rankport.exporters.proof.prove import Progress
from rankport.exporters.quantization.calibration import InputSums, calibrate
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import RankportError
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.tokens import TokenRun

_MOST_REQUESTS = 256
_MOST_ITEMS = 8
"""Items taken of a request: more would weigh its prefix, which every item repeats, too much."""


def calibrate_ranker(
    source: Checkpoint,
    draft: ManifestDraft,
    tokenizer: Tokenizer | None,
    file: Path,
    store: StrPath | None,
    on_progress: Progress,
) -> InputSums:
    """Runs the file's requests through the source. `draft` says how requests become tokens, `store` holds their keys'.

    Raises InvalidRequest: the file cannot be used; the message names the line.
    """
    every = read_requests(file)
    requests = every[:_MOST_REQUESTS]
    runs, cut = _token_runs(requests, draft, tokenizer, store)
    assert draft.labels is not None
    pooled = pooled_reference(source, draft.head, len(draft.labels.names))
    reference = RankerReference(source, readout_of(draft.labels), pooled)

    def run() -> None:
        for done, (prefix, items) in enumerate(runs, 1):
            on_progress(f"calibrating on requests {done}/{len(runs)}")
            reference.logits(prefix, items)

    calibration = calibrate(source.model, run)
    calibration.requests, calibration.cut = len(requests), cut
    taken = sum(min(len(request.items), _MOST_ITEMS) for request in requests)
    calibration.passed_over = sum(len(request.items) for request in every) - taken
    return calibration


def _token_runs(
    requests: Sequence[RealRequest], draft: ManifestDraft, tokenizer: Tokenizer | None, store: StrPath | None
) -> tuple[list[tuple[TokenRun, list[TokenRun]]], int]:
    """Encodes each request; tells how many prefixes and items were cut to the limits."""
    prompt = PromptEncoder(draft, tokenizer)
    runs, cut = [], 0
    with ExitStack() as opened:
        tokens = None
        if store is not None:
            tokens = opened.enter_context(closing(open_store(store, read_only=True)))
        keyed = KeyedItems(draft, None if tokens is None else paired_tokens(tokens, draft))
        for request in requests:
            try:
                items = ItemColumns.of(request.items[:_MOST_ITEMS])
                embedded = keyed.resolve(items.keys, "fail", items.count)
                prefix = prompt.encode_prefix(request.prefix, "truncate")
                encoded = prompt.encode_items(items, "truncate", embedded, behind=prefix)
                runs.append((prefix.run, list(encoded.runs)))
                cut += prefix.truncated + len(encoded.truncated)
            except RankportError as error:
                raise type(error)(f"{request.place}: {error}") from error
    return runs, cut
