"""A decoder checkpoint as a function of tokens that continue prefixes: label logits and new KV.

Owns the arguments of the `prefix` and `score` graphs, before ONNX, one class a layout. Both graphs are cut out of one
such function.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.kinds.decoders.averages import averaged
from rankport.exporters.kinds.decoders.grids import one_grid
from rankport.exporters.kinds.decoders.grouped_attention import GroupedPrefix
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix
from rankport.exporters.kinds.decoders.recurrence import going_on_from_prefix
from rankport.exporters.kinds.decoders.row_attention import RowPrefix
from rankport.exporters.kinds.decoders.shared_prefix import (
    NO_WINDOWS,
    SharedPrefix,
    attending_to_prefix,
    passing,
)
from rankport.exporters.kinds.labels.label_head import ReadOut, label_head
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.runtime.bundle.sections.embedding import Pooling

Inputs = dict[str, Tensor]
"""Tokens as the model's forward takes them: `input_ids` [1, tokens] or `inputs_embeds` [1, tokens, hidden]."""


class DecoderModule(nn.Module):
    """A decoder that ends in its label head. Each layout of tokens is a subclass, whose `forward` is to be traced.

    Every `forward` takes, beside its own arguments,
        last_tokens [items] int64: index of each item's last token,
        past: 2 * layers tensors (key, value, key, ...), each [prefixes, kv_heads, past, head_dim], and where all states
        are averaged the last states of the prefix [prefixes, 1, past, hidden],
        carried: a tensor [prefixes, ...] for each of `carried` of the module, if there are any,
        embeddings [rows, hidden] float and embedding_rows [a token] int64 (-1: a text token) if it takes embeddings,
    and returns
        [logits [items, labels], key 0 [prefixes, kv_heads, slots, head_dim], value 0, key 1, ..., likewise the states,
        what is carried on].
    """

    def __init__(
        self,
        model: nn.Module,
        readout: ReadOut,
        *,
        embeddings: bool,
        head: nn.Module | None = None,
        pooling: Pooling = "last-k",
    ) -> None:
        """Takes over a model that ends in a label head, or a bare body and the `head` behind its pooled states."""
        super().__init__()
        self.model = model
        self.head = label_head(model, readout) if head is None else head
        self.embed_tokens = model.get_input_embeddings()  # type: ignore[operator]
        self.takes_embeddings = embeddings
        self.classifies = readout.source == "classification_head"
        self.ids = readout.ids
        self.outputs = len(readout.ids)
        self.pooling: Pooling = pooling
        self.by_group: frozenset[int] = frozenset()  # layers whose query heads stand so, see `head_order`
        self.windows: Mapping[int, int] = NO_WINDOWS  # by layer, see `SharedPrefix`
        self.carried: tuple[str, ...] = ()  # what recurrent layers carry on: see `SharedPrefix.carried`

    def inputs(
        self, input_ids: Tensor, embeddings: Tensor | None = None, embedding_rows: Tensor | None = None
    ) -> Inputs:
        """Gives what the model reads of packed tokens: their ids, or where it takes embeddings the vectors of all."""
        if not self.takes_embeddings:
            return {"input_ids": input_ids[None]}
        vectors: Tensor = self.embed_tokens(input_ids)
        if embeddings is not None and embedding_rows is not None:
            injected = embeddings.index_select(0, embedding_rows.clamp(min=0))
            vectors = torch.where((embedding_rows >= 0)[:, None], injected, vectors)
        return {"inputs_embeds": vectors[None]}

    def logits(
        self, inputs: Inputs, position_ids: Tensor, last_tokens: Tensor, shared: SharedPrefix
    ) -> Tensor:
        """Runs packed `inputs` to label logits [items, labels]; fills `shared.new`."""
        arguments = {**inputs, "position_ids": position_ids[None], "use_cache": False}
        with passing(shared):
            return self._logits(arguments, position_ids, last_tokens, shared)

    def _logits(
        self, arguments: dict[str, Any], position_ids: Tensor, last_tokens: Tensor, shared: SharedPrefix
    ) -> Tensor:
        if self.classifies:
            hidden = self.model.base_model(**arguments).last_hidden_state  # type: ignore[operator]
            if self.pooling != "last-k":
                pooled = averaged(shared, hidden, position_ids, last_tokens, self.pooling)
                return self.head(pooled)  # type: ignore[no-any-return]
            return self.head(hidden[:, last_tokens])[0]  # type: ignore[no-any-return]
        # The model's own forward, so that what follows the head (soft-capping, scaling) stays its own code.
        if takes(self.model, "logits_to_keep"):
            return self.model(**arguments, logits_to_keep=last_tokens).logits[0]  # type: ignore[no-any-return]
        return self.model(**arguments).logits[0].index_select(0, last_tokens)  # type: ignore[no-any-return]


def takes(model: nn.Module, argument: str) -> bool:
    """Tells whether the model's forward names an argument: what it does not name it may pass over in silence."""
    return argument in inspect.signature(model.forward).parameters


class PackedDecoder(DecoderModule):
    """Tokens packed one after another: a CPU's layout."""

    def __init__(
        self,
        model: nn.Module,
        readout: ReadOut,
        *,
        embeddings: bool,
        head: nn.Module | None = None,
        pooling: Pooling = "last-k",
        attention: type[PackedPrefix] = PackedPrefix,
    ) -> None:
        """Takes the class of a pass's past: `StepPrefix` for a graph that writes."""
        super().__init__(model, readout, embeddings=embeddings, head=head, pooling=pooling)
        self._attention = attention

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        token_slots: Tensor,
        past_lengths: Tensor,
        last_tokens: Tensor,
        past: list[Tensor],
        carried: list[Tensor] | None = None,
        embeddings: Tensor | None = None,
        embedding_rows: Tensor | None = None,
    ) -> list[Tensor]:
        """Takes ids and positions [tokens] int64; the slots and lengths are those of `PackedPrefix`."""
        shared = self._attention(slots, token_slots, past_lengths, past, self.by_group, self.windows)
        if carried is not None:
            shared.past_carried = dict(zip(self.carried, carried, strict=True))
        inputs = self.inputs(input_ids, embeddings, embedding_rows)
        return _outputs(self.logits(inputs, position_ids, last_tokens, shared), shared)


class RowDecoder(DecoderModule):
    """Tokens in a rectangle of rows: a GPU's layout."""

    def __init__(
        self,
        model: nn.Module,
        readout: ReadOut,
        *,
        embeddings: bool,
        fused: bool,
        head: nn.Module | None = None,
        pooling: Pooling = "last-k",
    ) -> None:
        """See `RowPrefix` for `fused`."""
        super().__init__(model, readout, embeddings=embeddings, head=head, pooling=pooling)
        self.fused = fused

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        *,
        last_tokens: Tensor,
        past: list[Tensor],
        embeddings: Tensor | None = None,
        embedding_rows: Tensor | None = None,
        past_mask: Tensor,
        own_mask: Tensor,
        item_places: Tensor | None = None,
        carried: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Takes all that is one a token as [prefixes, rows, row_tokens]; masks and places are those of `RowPrefix`."""
        shared = RowPrefix(
            input_ids.shape,
            (past_mask, own_mask),
            past,
            fused=self.fused,
            positions=position_ids,
            by_group=self.by_group,
            windows=self.windows,
            item_places=item_places,
        )
        if carried is not None:
            shared.past_carried = dict(zip(self.carried, carried, strict=True))
        rows = None if embedding_rows is None else embedding_rows.flatten()
        inputs = self.inputs(input_ids.flatten(), embeddings, rows)
        return _outputs(self.logits(inputs, position_ids.flatten(), last_tokens, shared), shared)


class GroupedDecoder(DecoderModule):
    """Tokens in a rectangle of rows, an item each: a GPU's layout for ONNX Runtime's GroupQueryAttention."""

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        *,
        last_tokens: Tensor,
        past: list[Tensor],
        past_lengths: Tensor,
        row_lengths: Tensor,
    ) -> list[Tensor]:
        """Takes all that is one a token as [prefixes, rows, row_tokens]; the lengths are those of `GroupedPrefix`."""
        # Counted on the device: what is counted from a shape would be made on the host.
        places = (input_ids == input_ids).flatten().to(torch.int64).cumsum(0) - 1
        shared = GroupedPrefix(input_ids.shape, (past_lengths, row_lengths), past, places, self.windows)
        inputs = self.inputs(input_ids.flatten())
        return _outputs(self.logits(inputs, position_ids.flatten(), last_tokens, shared), shared)


def _outputs(logits: Tensor, shared: SharedPrefix) -> list[Tensor]:
    kept = [states for layer in shared.new.values() for states in layer]
    states = [] if shared.states is None else [shared.states]
    return [logits, *kept, *states, *shared.carried.values()]


@contextmanager
def shared_prefix_mode(module: DecoderModule) -> Iterator[None]:
    """Has the model, while open, attend to a `SharedPrefix` and end in the label head.

    Rotary frequencies that switch with the sequence length stay those of short sequences, and queries that are scaled
    by where they stand in the sequence those of its beginning: a packed sequence has no length of its own. `survey`
    bounds the limits accordingly.
    """
    model = module.model
    full_head = None if module.classifies else model.get_output_embeddings()  # type: ignore[operator]
    with ExitStack() as stack:
        for rotary in switching_rotary(model):
            stack.enter_context(temporary_attributes(rotary, {"rope_type": _of_short_ones(rotary.rope_type)}))
        for attention in scaling_by_place(model):
            stack.enter_context(temporary_attributes(attention, {"attn_temperature_tuning": False}))
        if full_head is not None:
            stack.callback(model.set_output_embeddings, full_head)  # type: ignore[arg-type]
            model.set_output_embeddings(module.head)  # type: ignore[operator]
        with attending_to_prefix(model), going_on_from_prefix(model), one_grid(model):
            yield


def switching_rotary(model: nn.Module) -> list[nn.Module]:
    """Finds rotary embeddings whose frequencies depend on the sequence length: dynamic NTK and longrope."""
    return [part for part in model.modules() if _switches(getattr(part, "rope_type", None))]


def scaling_by_place(model: nn.Module) -> list[nn.Module]:
    """Finds attention that scales queries by the place in the sequence, which it counts itself: Llama 4's.

    The factor of place p (arXiv 2501.19399) is 1 as long as p + 1 < `floor_scale`.
    """
    return [part for part in model.modules() if getattr(part, "attn_temperature_tuning", False) is True]


def _switches(kind: object) -> bool:
    """Tells it of a kind, or of one for each kind of layer."""
    if isinstance(kind, dict):
        return any(_switches(part) for part in kind.values())
    return isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")


def _of_short_ones(kind: object) -> object:
    """Names what computes with the frequencies that are there, in a kind's place or for each kind of layer."""
    if isinstance(kind, dict):
        return {layers: _of_short_ones(part) for layers, part in kind.items()}
    return "default" if _switches(kind) else kind
