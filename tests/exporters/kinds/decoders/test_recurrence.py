"""Recurrent layers of packed tokens: items go on from the states of their prefixes as the whole sequences would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.decoders.module import PackedDecoder, shared_prefix_mode
from rankport.exporters.kinds.decoders.survey import survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import pack
from rankport.runtime.tokens import TokenRun
from support.hybrids import FAMILIES, hybrid

LABELS = (9, 17)
Tokens = NDArray[np.int64]


class Prefix:
    """So many tokens, as a batch asks of the KV of a prefix."""

    def __init__(self, length: int) -> None:
        self.length, self.nbytes = length, 0


def run(
    module: PackedDecoder,
    pasts: Sequence[int],
    runs: Sequence[Tokens],
    owner: list[int],
    kept: list[torch.Tensor],
) -> list[torch.Tensor]:
    batch = PrefixBatch.of(
        [(Prefix(past),) if past else () for past in pasts], list(map(TokenRun, runs)), np.array(owner)
    )
    layout = pack(batch, EmbeddingsForm(1))
    inputs: dict[str, Any] = {
        name: torch.from_numpy(np.array(value.array()))
        for name, value in layout.inputs(layout.sizes).items()
        if not name.startswith("embedding")
    }
    states = len(module.carried)
    outputs: list[torch.Tensor] = module(**inputs, past=kept[:-states], carried=kept[-states:])
    return outputs


@pytest.mark.parametrize("family", FAMILIES)
def test_items_of_several_prefixes_answer_as_whole_sequences(family: str, tmp_path: Path) -> None:
    model = load_checkpoint(hybrid(tmp_path, family)).model
    module = PackedDecoder(model, ReadOut("lm_head", LABELS), embeddings=False)
    facts = survey(module)
    assert facts.hybrid is not None
    module.carried = facts.hybrid.carried
    random = np.random.default_rng(7)
    prefixes = [random.integers(3, 100, size) for size in (11, 2, 6)]
    halves = [(prefix[: len(prefix) // 2], prefix[len(prefix) // 2 :]) for prefix in prefixes]
    items = [random.integers(3, 100, size) for size in (3, 1, 7, 2, 5)]
    owner = [0, 0, 1, 2, 2]
    layers = [(layer.kv_heads, layer.head_dim) for layer in facts.layers for _ in ("key", "value")]
    nothing = [torch.zeros(3, heads, 0, dim) for heads, dim in layers]
    zeros = [torch.zeros(3, *shape) for shape in facts.hybrid.shapes]
    with shared_prefix_mode(module), torch.no_grad():
        _, *first = run(module, [0, 0, 0], [half for half, _ in halves], [0, 1, 2], nothing + zeros)
        lengths = [len(half) for half, _ in halves]
        _, *second = run(module, lengths, [half for _, half in halves], [0, 1, 2], first)
        whole = []
        for before, after in zip(first[: len(layers)], second[: len(layers)], strict=True):
            rows = [
                torch.cat([before[i, :, :length], after[i, :, : len(prefixes[i]) - length]], 1)
                for i, length in enumerate(lengths)
            ]
            longest = max(row.shape[1] for row in rows)
            # What is padded must not be read: it is far from zero.
            padded = [
                torch.nn.functional.pad(row, (0, 0, 0, longest - row.shape[1]), value=9.0) for row in rows
            ]
            whole.append(torch.stack(padded))
        logits, *_ = run(module, list(map(len, prefixes)), items, owner, whole + second[len(layers) :])
    for row, (own, item) in enumerate(zip(owner, items, strict=True)):
        ids = torch.tensor(np.concatenate([prefixes[own], item]))[None]
        with torch.no_grad():
            right = model(input_ids=ids, use_cache=False).logits[0, -1, list(LABELS)]  # type: ignore[operator]
        torch.testing.assert_close(logits[row], right, atol=1e-4, rtol=1e-4)
