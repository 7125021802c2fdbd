"""Shared-prefix attention by ONNX Runtime's GroupQueryAttention, of 1.32 or later: an item a row, no masks.

Tokens come as a rectangle [prefixes, rows, row tokens] as in `row_attention`, but a row holds one item, so that lengths
say who sees whom and the kernel is the causal one without a bias. Of short items beside each other the operator could
know only by a bias, with which CUDA has no fused kernel.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rankport.exporters.kinds.decoders.row_attention import rows_by_slot
from rankport.exporters.kinds.decoders.shared_prefix import KV, NO_WINDOWS, Scoring, SharedPrefix
from rankport.protos.errors import CheckpointError
from rankport.protos.installed.packages import installed_version
from rankport.runtime.bundle.manifest import LayerKV, version_numbers

LEAST_VERSION = "1.32"
"""First version of ONNX Runtime whose operator takes `query_seqlens`."""


_WIDTHS = 16
"""What the operator wants the width of a head to be a multiple of."""


def require_grouped(layers: Sequence[LayerKV]) -> None:
    """Raises CheckpointError for heads that the operator does not take, or where ONNX Runtime cannot prove it."""
    odd = next((layer.head_dim for layer in layers if layer.head_dim % _WIDTHS), None)
    if odd is not None:
        raise CheckpointError(
            f"heads of width {odd}: --attention grouped takes multiples of {_WIDTHS}, leave it out"
        )
    installed = installed_version("onnxruntime") or "none"
    if version_numbers(installed) < version_numbers(LEAST_VERSION):
        raise CheckpointError(
            f"onnxruntime {installed} cannot prove --attention grouped: install {LEAST_VERSION} or later, or leave "
            "it out"
        )


class GroupedPrefix(SharedPrefix):
    """A rectangle of tokens that continues several prefixes, an item a row."""

    def __init__(
        self,
        rectangle: torch.Size,
        lengths: tuple[Tensor, Tensor],
        past: Sequence[Tensor],
        places: Tensor,
        windows: Mapping[int, int] = NO_WINDOWS,
    ) -> None:
        """Takes the `rectangle` as (prefixes, rows, row tokens).

        lengths: of the prefixes [prefixes] and of the rows [prefixes, rows], from 1 on; places [tokens] int64, the
        index of each token, by which a rotation inside the operator is looked up.
        """
        super().__init__(past, windows=windows)
        self._rectangle, self._past_lengths = rectangle, lengths[0]
        prefixes, rows, length = rectangle
        past_lengths, row_lengths = lengths
        self._last = (past_lengths[:, None] + row_lengths - 1).to(torch.int32).reshape(prefixes * rows)
        self._counts = row_lengths.to(torch.int32).reshape(prefixes * rows)
        self._places = places.reshape(prefixes * rows, length)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> tuple[Tensor, KV]:
        """See `SharedPrefix.attend`. Raises CheckpointError for values of another width than keys."""
        _, heads, tokens, head_dim = query.shape
        kv_heads = key.shape[1]
        if value.shape[-1] != head_dim:
            raise CheckpointError(
                f"grouped attention takes values as wide as keys, these are {value.shape[-1]} and {head_dim}: leave "
                "--attention out"
            )
        assert self.past is not None
        prefixes, rows, length = self._rectangle
        cached = self.past[self.places[layer]][0].shape[2]

        def by_row(states: Tensor) -> Tensor:
            """[prefixes * rows, length, heads * width]"""
            width = states.shape[1] * states.shape[-1]
            return states.transpose(1, 2).reshape(prefixes * rows, length, width)

        def repeated(before: Tensor) -> Tensor:
            """[prefixes * rows, kv_heads, cached, head_dim]"""
            copies = before[:, None].expand(prefixes, rows, kv_heads, cached, head_dim)
            return copies.reshape(prefixes * rows, kv_heads, cached, head_dim)

        within = {} if scoring.window is None else {"local_window_size": scoring.window}  # itself included
        past = tuple(repeated(before) for before in self.past[self.places[layer]])
        present = (prefixes * rows, kv_heads, cached + length, head_dim)
        mixed, _, _ = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            [
                by_row(query),
                by_row(key),
                by_row(value),
                *past,
                self._last,
                # Reshaped, not expanded, which CUDA does on the device: the operator reads it on the host.
                torch.scalar_tensor(cached + length, dtype=torch.int32).reshape(1),
                None,
                None,
                self._places,
                None,
                scoring.sinks,
                *[None] * 4,
                self._counts,
            ],
            {
                "num_heads": heads,
                "kv_num_heads": kv_heads,
                "scale": scoring.scale,
                "softcap": scoring.softcap or 0.0,
                **within,
            },
            dtypes=(query.dtype, query.dtype, query.dtype),
            shapes=((prefixes * rows, length, heads * head_dim), present, present),
            version=1,
        )
        return mixed.reshape(1, tokens, heads, head_dim), (key, value)

    def by_slot(self, states: Tensor) -> Tensor:
        """See `SharedPrefix.by_slot`. Zeros behind a row's end, where the operator leaves whatever was there."""
        by_slot = rows_by_slot(self._rectangle, states)
        exists = self._places - self._places[:, :1] < self._counts[:, None]
        return torch.where(exists.reshape(by_slot.shape[0], 1, by_slot.shape[2], 1), by_slot, 0.0)

    def slots_of(self, tokens: Tensor) -> Tensor:
        """See `SharedPrefix.slots_of`: a token's own place is its slot."""
        return tokens

    def existing(self) -> Tensor:
        """See `SharedPrefix.existing`. Places are counted on the device, as are those of `seeing`."""
        assert self.past_states is not None
        places = (self.past_states[:, 0, :, 0] == self.past_states[:, 0, :, 0]).to(torch.int64).cumsum(1)
        return (places <= self._past_lengths[:, None]).to(torch.float32)

    def seeing(self) -> Tensor:
        """See `SharedPrefix.seeing`."""
        return (self._places[:, None, :] <= self._places[:, :, None]).to(torch.float32)
