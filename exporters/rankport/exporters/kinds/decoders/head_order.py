"""The heads of a decoder by group, while its graphs for CUDA, and others over the same weights, are traced."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from rankport.exporters.kinds.decoders.module import DecoderModule, shared_prefix_mode
from rankport.exporters.kinds.decoders.survey import run_items
from rankport.exporters.kinds.head_order import AttentionHeads, Modules, heads_by_group
from rankport.exporters.temporary_attributes import temporary_attributes

_ITEMS = ((1, 2, 3, 4), (4, 3, 1, 2))


@contextmanager
def decoder_heads_by_group(module: DecoderModule) -> Iterator[None]:
    """Has them stand so while open, as far as `heads_by_group` does; layers without a kernel (`plain`) do not."""
    items = torch.tensor(_ITEMS) % module.embed_tokens.num_embeddings

    def run(by_group: Modules) -> tuple[Sequence[AttentionHeads], Sequence[Tensor]]:
        with shared_prefix_mode(module):
            logits, shared = run_items(module, items, _layers(by_group))
        return tuple(shared.plain.values()), (
            logits,
            *(kv for layer in shared.new.values() for kv in layer),
        )

    with (
        heads_by_group(module.model, run) as moved,
        temporary_attributes(module, {"by_group": _layers(moved)}),
    ):
        yield


def _layers(modules: Modules) -> frozenset[int]:
    numbers = (module.layer_idx for module in modules)
    return frozenset(number for number in numbers if isinstance(number, int))
