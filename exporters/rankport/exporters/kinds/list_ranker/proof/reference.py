"""The source run the plain way: each block as one text, tokenized at once, whole, and without padding.

What every export of a list ranker is measured against. Shares no code with graph, prompt and joining of the bundle, but
for where blocks begin, which is no maths of the model.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.proof.compare import Logits
from rankport.protos.types import Item, Truncation
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.bundle.sections.lists import ListSegment

Piece = str | Tensor
"""A text, token ids [tokens], or embedding tokens [tokens, hidden]."""


@dataclass(frozen=True, slots=True)
class ListReference:
    """A source, its own template, and its tokenizer, for which the names of special tokens are those tokens."""

    model: ListRankerModel
    tokenizer: tokenizers.Tokenizer
    limits: Limits

    @classmethod
    def of(cls, model: ListRankerModel, file: Path, limits: Limits) -> Self:
        """Loads the tokenizer of a checkpoint."""
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(model, tokenizer, limits)

    @property
    def form(self) -> ListRankerConfig:
        """Form that the checkpoint's config tells."""
        return self.model.form

    def logits(
        self,
        fields: Mapping[str, str],
        items: Sequence[Item],
        blocks: Sequence[int],
        truncation: Truncation,
    ) -> Logits:
        """Scores a list whose blocks begin and end at these offsets. [items, 1]

        Where items are read alone, there is one block, of the first items; each has a read of its own.
        """
        texts = {
            name: self._said(text, self.limits.max_prefix_tokens, truncation) for name, text in fields.items()
        }
        pieces = [self._piece(item, truncation) for item in items]
        with torch.no_grad():
            if self.form.template.alone:
                pseudo_query = self._last(self._pieces(texts, pieces[: blocks[1]]))
                own = [self._last(self._alone(piece)) for piece in pieces]
                cosines = torch.stack(own) @ pseudo_query
                return np.asarray(cosines.float().numpy()[:, None], np.float32)
            read = [self._block(texts, pieces[start:stop]) for start, stop in itertools.pairwise(blocks)]
            return np.asarray(self._joined(read).float().numpy()[:, None], np.float32)

    def _joined(self, blocks: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
        items = torch.cat([own for own, _ in blocks])
        queries = [query for _, query in blocks if query is not None]
        if not queries:
            return items[:, 0]
        cosines = [
            torch.nn.functional.cosine_similarity(own, query[None])
            for (own, _), query in zip(blocks, queries, strict=True)
        ]
        if self.form.join != "mean-query":
            return torch.cat(cosines)
        weights = torch.stack([((1.0 + own) / 2.0).max() for own in cosines])
        mean = (torch.stack(queries) * (weights / weights.sum())[:, None]).sum(dim=0)
        return torch.nn.functional.cosine_similarity(items, mean[None])

    def _block(self, fields: Mapping[str, str], items: Sequence[Piece]) -> tuple[Tensor, Tensor | None]:
        """Reads one prompt: what stands at the items' markers [items, width], and at the query's [width]."""
        ids, vectors = self._read(self._pieces(fields, items))
        assert self.form.item_marker is not None, "of a block"
        own = vectors[ids == self.tokenizer.token_to_id(self.form.item_marker)]
        if self.form.query_marker is None:
            return own, None
        return own, vectors[ids == self.tokenizer.token_to_id(self.form.query_marker)][0]

    def _last(self, pieces: Iterator[Piece]) -> Tensor:
        """Reads a text to its last token, whose state is its vector, of length 1. [width]"""
        _, vectors = self._read(pieces)
        return torch.nn.functional.normalize(vectors[-1], dim=0)

    def _read(self, pieces: Iterator[Piece]) -> tuple[Tensor, Tensor]:
        """Reads one text: its ids [tokens], and what stands at each [tokens, width]."""
        ids, inputs = self._inputs(list(pieces))
        states = self.model.model(inputs_embeds=inputs[None], use_cache=False).last_hidden_state[0]
        return ids, self.model.projector(states).float()

    def _alone(self, item: Piece) -> Iterator[Piece]:
        for segment in self.form.template.alone:
            yield item if segment.item else self._written(segment, {}, 1)

    def _inputs(self, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
        """Embeds a prompt: ids [tokens], -1 of embedding tokens, and input embeddings [tokens, hidden]."""
        table = self.model.get_input_embeddings()
        ids, inputs, text = list[Tensor](), list[Tensor](), ""
        for piece in (*pieces, torch.zeros(0, dtype=torch.int64)):
            if isinstance(piece, str):
                text += piece
                continue
            own = torch.tensor(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=torch.int64)
            embedded = piece.is_floating_point()
            ids += [own, torch.full((len(piece),), -1) if embedded else piece]
            said = table(own)  # in half precision where the noise of that is measured
            inputs += [said, piece.to(said.dtype) if embedded else table(piece)]
            text = ""
        return torch.cat(ids), torch.cat(inputs)

    def _pieces(self, fields: Mapping[str, str], items: Sequence[Piece]) -> Iterator[Piece]:
        template = self.form.template
        for segment in template.head:
            yield self._written(segment, fields, len(items))
        for place, item in enumerate(items):
            yield template.between if place else ""
            for segment in template.item:
                number = "" if segment.number is None else str(segment.number + place)
                yield item if segment.item else number or self._written(segment, fields, len(items))
        for segment in template.tail:
            yield self._written(segment, fields, len(items))

    def _written(self, segment: ListSegment, fields: Mapping[str, str], count: int) -> str:
        marks = {"item": self.form.item_marker or "", "query": self.form.query_marker or ""}
        field = "" if segment.field is None else fields[segment.field]
        mark = "" if segment.mark is None else marks[segment.mark]
        digits = str(count) if segment.count else ""
        return (segment.text or "") + "".join(segment.special or ()) + field + mark + digits

    def _piece(self, item: Item, truncation: Truncation) -> Piece:
        if isinstance(item, str):
            return self._said(item, self.limits.max_item_tokens, truncation)
        values: NDArray[np.generic] = np.asarray(item)
        return torch.tensor(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))

    def _said(self, text: str, most: int, truncation: Truncation) -> str:
        """Leaves names of markers out of a text, and of a long one all behind its first tokens."""
        names = self.form.markers
        while any(name in text for name in names):
            for name in names:
                text = "".join(text.split(name))
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        cut = truncation == "truncate" and len(offsets) > most
        return text[: offsets[most][0]] if cut else text
