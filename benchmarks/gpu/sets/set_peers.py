"""Peers of the rankers of sets: the same in torch, compiled, states of histories kept on the device; candidates/s.

In half precision, all requests in one batch. LiGR by `scaled_dot_product_attention`, with a mask where candidates see
themselves alone; HSTU, which has no softmax, by two products that the compiler joins what is between to. A rehearsal
traces the passes and runs them as they are.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.peers import timed
from benchmarks.gpu.reports.figures import quantiles_ms
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.sets.case import (
    FULL,
    ITEM,
    NOW,
    PEER_CASES,
    TINY,
    SetCase,
    SetShape,
    drawn,
    expected,
    flops,
    random_model,
)
from rankport.exporters.checkpoints.set_ranker.blocks import HstuBlock, LigrBlock
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel

_CASE_S = 10


def main() -> None:
    """Measures every kind of block with either mask, as far as the time goes."""
    part = arguments(__doc__)
    torch._dynamo.config.recompile_limit = 32
    shape = FULL if part.on_gpu else TINY
    for case in PEER_CASES:
        if part.enough(_CASE_S if part.on_gpu else 0, case.name):
            _measure(part, case, shape)
    part.figures.add("done", True)


def _measure(part: Part, case: SetCase, shape: SetShape) -> None:
    model, request = random_model(case, shape), drawn(shape, np.random.default_rng(0))
    state, logits = expected(model, request)
    dtype = torch.float16 if part.on_gpu else torch.float32
    peer = SetPeer(model, request.times, part.device, dtype, "inductor" if part.on_gpu else "eager")
    # A history of its own each: what is in them does not change the work.
    kept = [layer.to(part.device, dtype).repeat(shape.requests, 1, 1, 1) for layer in state]
    ids = torch.from_numpy(request.candidates).to(part.device).repeat(shape.requests, 1)
    begun = time.monotonic()
    with torch.inference_mode():
        error = (peer.rank(ids, kept)[0].float().cpu() - logits).abs().max()
    figures: dict[str, Any] = {"compile_s": time.monotonic() - begun, "max_abs_error": float(error)}
    part.figures.add(f"{case.name}, torch, logits", figures)
    candidates = shape.requests * shape.candidates
    seconds, energy = timed(lambda: peer.rank(ids, kept), part, candidates)
    batch_s = float(np.median(seconds))
    share = part.share(shape.requests * flops(case, shape, cached=True) / batch_s)
    figures = {"candidates_per_s": candidates / batch_s} | share | quantiles_ms(seconds) | energy
    part.figures.add(f"{case.name}, torch compiled, histories kept", figures)


class SetPeer:
    """Module of a case as torch runs it over a batch: each block compiled, one compilation for all of them."""

    def __init__(
        self,
        model: SetRankerModel,
        times: np.typing.NDArray[np.int64],
        device: str,
        dtype: torch.dtype,
        backend: str = "inductor",
    ) -> None:
        """Takes the module over: it is moved and rounded."""
        self._together = model.config.sets.mask.policy == "set-wise"
        seconds = NOW - torch.from_numpy(times)[None]
        behind = torch.arange(len(times), 0, -1)[None]
        here = torch.zeros(1, 1, dtype=torch.int64)
        blocks: list[Any] = list(model.blocks)
        # Of events and of candidates, as all of them are at one distance. [heads, 1, events], [heads, 1, 1]
        self._biases = [
            tuple(block.bias(*at).to(device, dtype) for at in ((behind, seconds), (here, here)))
            for block in blocks
        ]
        self._model = model.to(device, dtype)
        self._run = torch.compile(self._block, dynamic=False, backend=backend)

    def rank(self, ids: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Scores candidates [requests, candidates] behind keys and values [requests, heads, events, head_dim]."""
        model = self._model
        rows: Tensor = model.candidate_in(model.tables[ITEM](ids))
        for index, block in enumerate(model.blocks):
            rows = self._run(block, rows, kept[2 * index], kept[2 * index + 1], self._biases[index])
        rows = model.norm(rows)
        return torch.cat([tower(rows) for tower in model.towers.values()], dim=2)

    def _block(
        self, block: Any, rows: Tensor, keys: Tensor, values: Tensor, biases: tuple[Tensor, Tensor]
    ) -> Tensor:
        if isinstance(block, LigrBlock):
            return self._ligr(block, rows, keys, values)
        return self._hstu(block, rows, keys, values, biases)

    def _ligr(self, block: LigrBlock, rows: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        query, key, value = (
            _heads(block, part) for part in block.qkv(block.attention_norm(rows)).chunk(3, 2)
        )
        mask = None
        if not self._together:
            past, new = keys.shape[2], key.shape[2]
            mask = torch.eye(new, dtype=torch.bool, device=rows.device)
            mask = torch.cat([mask.new_ones(new, past), mask], dim=1)
        attended = F.scaled_dot_product_attention(
            query, torch.cat([keys, key], 2), torch.cat([values, value], 2), attn_mask=mask
        )
        rows = rows + torch.sigmoid(block.attention_gate(rows)) * block.out(_joined(attended))
        gate, up = block.ffn_in(block.ffn_norm(rows)).chunk(2, 2)
        added: Tensor = torch.sigmoid(block.ffn_gate(rows)) * block.ffn_out(F.silu(gate) * up)
        return rows + added

    def _hstu(
        self, block: HstuBlock, rows: Tensor, keys: Tensor, values: Tensor, biases: tuple[Tensor, Tensor]
    ) -> Tensor:
        gate, *parts = F.silu(block.uvqk(block.norm(rows))).chunk(4, 2)
        value, query, key = (_heads(block, part) for part in parts)
        behind, beside = biases
        attended = F.silu(query @ keys.transpose(2, 3) + behind) @ values
        if self._together:
            attended = attended + F.silu(query @ key.transpose(2, 3) + beside) @ value
        else:
            attended = attended + F.silu((query * key).sum(3, keepdim=True) + beside) * value
        attended = attended / (keys.shape[2] + (key.shape[2] if self._together else 1))
        added: Tensor = block.out(block.attended_norm(_joined(attended)) * gate)
        return rows + added


def _heads(block: LigrBlock | HstuBlock, rows: Tensor) -> Tensor:
    """Splits rows into heads. [requests, heads, rows, head_dim]"""
    return rows.view(*rows.shape[:2], block.heads, -1).transpose(1, 2)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


if __name__ == "__main__":
    main()
