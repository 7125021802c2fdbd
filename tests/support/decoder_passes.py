"""Passes of a decoder in torch, laid out as a backend lays them out: before there is a graph."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rankport.exporters.kinds.decoders.module import PackedDecoder, RowDecoder, shared_prefix_mode
from rankport.exporters.kinds.decoders.survey import Survey
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import pack
from rankport.runtime.backends.layouts.rectangle import rectangle
from rankport.runtime.tokens import TokenRun
from support import checkpoints

Ids = list[int]


@dataclass(frozen=True)
class Past:
    """Piece of what a prefix keeps, as one of `PrefixBatch`."""

    kv: list[Tensor]  # [kv_heads, tokens, width] by layer, key and value

    @property
    def length(self) -> int:
        return self.kv[0].shape[1]


@dataclass(frozen=True)
class Passes:
    """A decoder laid out in one way, and the facts of its KV."""

    module: PackedDecoder | RowDecoder
    facts: Survey

    def logits(self, prefixes: list[Ids], items: list[list[Ids]], parts: int) -> Tensor:
        """Computes each prefix in so many parts, then all items in one pass. [items, labels]"""
        past: list[list[Past]] = [[] for _ in prefixes]
        with shared_prefix_mode(self.module):
            for part in range(parts):
                pieces = [
                    prefix[len(prefix) * part // parts : len(prefix) * (part + 1) // parts]
                    for prefix in prefixes
                ]
                there = [place for place, piece in enumerate(pieces) if piece]
                _, added = self._passed(
                    [past[place] for place in there], [[pieces[place]] for place in there]
                )
                for place, piece in zip(there, added, strict=True):
                    past[place].append(piece)
            return self._passed(past, items)[0]

    def _passed(self, prefixes: list[list[Past]], runs: list[list[Ids]]) -> tuple[Tensor, list[Past]]:
        """Runs one pass: logits of all runs, and what it adds to each prefix that has one run."""
        owner = np.repeat(np.arange(len(prefixes)), [len(of_prefix) for of_prefix in runs])
        flat = [TokenRun(np.array(run)) for of_prefix in runs for run in of_prefix]
        batch = PrefixBatch.of(tuple(map(tuple, prefixes)), flat, owner)  # type: ignore[arg-type]
        lay_out = pack if isinstance(self.module, PackedDecoder) else rectangle
        layout = lay_out(batch, EmbeddingsForm(1))
        sizes = layout.rounded_sizes()
        arrays = {name: torch.tensor(part.array()) for name, part in layout.inputs(sizes).items()}
        wanted = {"input_ids", "position_ids", "last_tokens"}
        wanted |= {"slots", "token_slots", "past_lengths"} if lay_out is pack else {"past_mask", "own_mask"}
        with torch.no_grad():
            logits, *new = self.module(
                **{name: arrays[name] for name in wanted},
                past=self._past(prefixes, sizes.prefixes, sizes.past),
            )
        lengths = [len(of_prefix[0]) for of_prefix in runs]
        added = [Past([states[place, :, :length] for states in new]) for place, length in enumerate(lengths)]
        return logits[: len(flat)], added

    def _past(self, prefixes: list[list[Past]], count: int, room: int) -> list[Tensor]:
        result: list[Tensor] = []
        for layer in (layer for layer in self.facts.layers for _ in ("key", "value")):
            # What lies where no token is must not matter.
            past = torch.full((count, layer.kv_heads, room, layer.head_dim), 3.0)
            for row, pieces in enumerate(prefixes):
                if pieces:
                    kept = torch.cat([piece.kv[len(result)] for piece in pieces], 1)
                    past[row, :, : kept.shape[1]] = kept
            result.append(past)
        return result


def expected_logits(model: torch.nn.Module, prefixes: list[Ids], items: list[list[Ids]]) -> Tensor:
    """Computes the same by the model's own forward of each whole sequence. [items, vocabulary]"""
    with torch.no_grad():
        return torch.stack(
            [
                model(torch.tensor([prefix + item])).logits[0, -1]
                for prefix, of_prefix in zip(prefixes, items, strict=True)
                for item in of_prefix
            ]
        )


def random_ids(*lengths: int) -> list[Ids]:
    """Draws runs of ids."""
    generator = torch.Generator().manual_seed(sum(lengths))
    return [
        torch.randint(3, checkpoints.VOCABULARY, (length,), generator=generator).tolist()
        for length in lengths
    ]
