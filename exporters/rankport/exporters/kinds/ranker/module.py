"""A decoder checkpoint as one function of packed tokens: label logits and new KV.

Owns the arguments of the `prefix` and `score` graphs, before ONNX. Both graphs are cut out of this one function.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rankport.exporters.kinds.ranker.packed_attention import (
    ATTENTION_NAME,
    KEYWORD,
    SharedPrefix,
    install,
    set_attention,
)
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Which logits answer a request: rows of the LM head, or all outputs of a classification head."""

    source: str  # "lm_head" | "classification_head"
    ids: tuple[int, ...]


class RankerModule(nn.Module):
    """Packed tokens continuing several prefixes -> (label logits of each item's last token, new KV of each layer).

    Arguments as in `SharedPrefix`, and
        input_ids [tokens] int64, position_ids [tokens] int64, last_tokens [items] int64 packed index,
        past: 2 * layers tensors (key, value, key, ...),
        embeddings [rows, hidden] float and embedding_rows [tokens] int64 (-1: a text token) if it takes embeddings,
    or, for the layout of a GPU, all that is [tokens] as [prefixes, rows, row_tokens], without slots, token_slots and
    past_lengths, and with past_mask [prefixes, past] and own_mask [row_tokens, row_tokens], 0 or very low.
    """

    def __init__(self, model: nn.Module, readout: ReadOut, *, embeddings: bool) -> None:
        super().__init__()
        self.model = model
        self.head = label_head(model, readout)
        self.embed_tokens = model.get_input_embeddings()  # type: ignore[operator]
        self.takes_embeddings = embeddings
        self.classifies = readout.source == "classification_head"
        self.fused_attention = False  # of the layout of a GPU

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor | None = None,
        token_slots: Tensor | None = None,
        past_lengths: Tensor | None = None,
        *,
        last_tokens: Tensor,
        past: list[Tensor],
        embeddings: Tensor | None = None,
        embedding_rows: Tensor | None = None,
        past_mask: Tensor | None = None,
        own_mask: Tensor | None = None,
    ) -> list[Tensor]:
        """[logits [items, labels], key 0 [prefixes, kv_heads, slots, head_dim], value 0, key 1, ...]"""
        pairs = list(zip(past[::2], past[1::2], strict=True))
        masks = None
        if slots is None or token_slots is None or past_lengths is None:
            assert past_mask is not None
            assert own_mask is not None
            masks = (past_mask, own_mask)
            slots = token_slots = past_lengths = input_ids
            input_ids, position_ids = input_ids.flatten(), position_ids.flatten()
            embedding_rows = None if embedding_rows is None else embedding_rows.flatten()
        shared = SharedPrefix(
            slots, token_slots, past_lengths, pairs, masks=masks, fused=self.fused_attention
        )
        inputs = self.embed_tokens(input_ids)
        if embeddings is not None and embedding_rows is not None:
            injected = embeddings.index_select(0, embedding_rows.clamp(min=0))
            inputs = torch.where((embedding_rows >= 0)[:, None], injected, inputs)
        logits = self.logits(inputs[None], position_ids[None], last_tokens, shared)
        return [logits, *(kv for layer in range(len(pairs)) for kv in shared.new[layer])]

    def logits(
        self, inputs: Tensor, position_ids: Tensor, last_tokens: Tensor, shared: SharedPrefix
    ) -> Tensor:
        """Label logits [items, labels] of packed input embeddings [1, tokens, hidden]; fills `shared.new`."""
        arguments = {
            "inputs_embeds": inputs,
            "position_ids": position_ids,
            "use_cache": False,
            KEYWORD: shared,
        }
        if self.classifies:
            hidden = self.model.base_model(**arguments).last_hidden_state  # type: ignore[operator]
            return self.head(hidden[:, last_tokens])[0]  # type: ignore[no-any-return]
        # The model's own forward, so that what follows the head (soft-capping, scaling) stays its own code.
        return self.model(**arguments, logits_to_keep=last_tokens).logits[0]  # type: ignore[no-any-return]


def label_head(model: nn.Module, readout: ReadOut) -> nn.Module:
    """The classification head, or a head of the label rows of the LM head. Raises CheckpointError if there is none."""
    if readout.source == "classification_head":
        head = getattr(model, "score", None)
        if not isinstance(head, nn.Module):
            raise CheckpointError(
                f"{type(model).__name__} has no classification head named `score`: it is no decoder, whose prefix "
                "could be shared"
            )
        return head
    full = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(full, nn.Linear | QuantizedLinear):
        raise CheckpointError(
            f"{type(model).__name__} has an LM head of type {type(full).__name__}, expected Linear"
        )
    rows = torch.tensor(readout.ids)
    bias = None if full.bias is None else full.bias.detach()[rows].clone()
    if isinstance(full, QuantizedLinear):
        return QuantizedLinear(full.quantized.rows(rows), bias, full.activation)
    head = nn.Linear(full.in_features, len(readout.ids), bias=bias is not None)
    head.weight = nn.Parameter(full.weight.detach()[rows].clone(), requires_grad=False)
    if bias is not None:
        head.bias = nn.Parameter(bias, requires_grad=False)
    return head


@contextmanager
def shared_prefix_mode(module: RankerModule) -> Iterator[RankerModule]:
    """While open, the model attends through `shared_prefix_attention` and ends in the label head.

    Rotary frequencies that switch with the sequence length stay those of short sequences: a packed sequence has no
    length of its own. `survey` bounds the limits accordingly.
    """
    model = module.model
    install()
    before = model.config._attn_implementation  # type: ignore[union-attr]
    full_head = None if module.classifies else model.get_output_embeddings()  # type: ignore[operator]
    switching = {rotary: rotary.rope_type for rotary in switching_rotary(model)}
    for rotary in switching:
        rotary.rope_type = "default"  # type: ignore[assignment]
    set_attention(model, ATTENTION_NAME)
    if full_head is not None:
        model.set_output_embeddings(module.head)  # type: ignore[operator]
    try:
        yield module
    finally:
        for rotary, kind in switching.items():
            rotary.rope_type = kind
        set_attention(model, before)  # type: ignore[arg-type]
        if full_head is not None:
            model.set_output_embeddings(full_head)  # type: ignore[operator]


def switching_rotary(model: nn.Module) -> list[nn.Module]:
    """Rotary embeddings whose frequencies depend on the sequence length: dynamic NTK and longrope."""
    return [part for part in model.modules() if _switches(getattr(part, "rope_type", None))]


def _switches(kind: object) -> bool:
    if isinstance(kind, dict) and any(_switches(one) for one in kind.values()):
        raise CheckpointError(
            f"rotary frequencies {kind} switch with the sequence length in some layers only"
        )
    return isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")
