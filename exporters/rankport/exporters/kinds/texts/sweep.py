"""Requests drawn in number, answered in passes of all sizes: whether a ranking depends on who shares its passes."""

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.texts.rows import runs_of
from rankport.exporters.kinds.texts.samples import sample_runs
from rankport.exporters.proof.batches import batch_independence
from rankport.exporters.proof.compare import RankValues
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.prove import Progress
from rankport.protos.wording import counted
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.manifest import BatchIndependence, Manifest, Role
from rankport.runtime.prompt.pair_prompts import PairReader
from rankport.runtime.tokens import TokenRuns

ITEMS = 20
"""Items of a drawn request of pairs."""

_LONGEST = 64


def drawn_requests(manifest: Manifest, pairs: PairReader | None, count: int) -> list[TokenRuns]:
    """Draws `count` requests of random tokens: pairs of one first text and 20 second ones, or single texts."""
    vocab = manifest.shape.vocab_size
    if pairs is None:
        runs = sample_runs(vocab, min(manifest.limits.max_item_tokens, _LONGEST), count=count)
        return [runs_of([run]) for run in runs]
    assert manifest.pair is not None
    most = min(_LONGEST, manifest.pair.max_tokens // 2 - 2)
    first_most = min(max(1, most // 4), manifest.limits.max_prefix_tokens)
    items = sample_runs(vocab, most, count=count * ITEMS, seed=1)
    firsts = sample_runs(vocab, first_most, count=count)
    parts = [items[place * ITEMS : (place + 1) * ITEMS] for place in range(count)]
    return [
        pairs.encode(first.tolist(), [item.tolist() for item in part], "truncate").runs
        for first, part in zip(firsts, parts, strict=True)
    ]


def swept(
    place: Runnable,
    role: Role,
    requests: Sequence[TokenRuns],
    ranked: Callable[[NDArray[np.float32]], NDArray[np.float64]] | RankValues,
    on_progress: Progress,
) -> BatchIndependence:
    """Answers the requests in passes of 1, 2, 4, … texts up to as many as a pass has tokens for.

    `ranked` gives what orders the items of a request by their logits [items, labels].
    """
    runs = TokenRuns.join(requests)
    ends = np.cumsum([len(request) for request in requests])[:-1]
    most = max(1, int(place.config.max_batch_tokens / runs.lengths.mean()))
    by_size = {}
    with closing(load_text_backend(place.bundle, role, place.config)) as backend:
        for size in sorted({*(2**power for power in range(most.bit_length())), most}):
            on_progress(f"{counted(size, 'item')} in a pass")
            starts = range(0, len(runs), size)
            passes = [backend.compute(runs.part(at, min(at + size, len(runs)))) for at in starts]
            logits = np.concatenate(passes).astype(np.float32)
            by_size[size] = [ranked(rows) for rows in np.split(logits, ends)]
    return batch_independence(by_size)
