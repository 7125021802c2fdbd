"""`CompiledPrompt`: a prompt as literal ids and groups, before any limit.

Owns which segments are one text, by `joined`; `stable_edge` says where a text between prefix and item is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.joined.groups import Group, Piece
from rankport.runtime.prompt.joined.stable_edge import StableEdge, find_stable_edge
from rankport.runtime.prompt.template import Slot
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class CompiledPrompt:
    """A prompt as literal ids and groups with slots, in order."""

    prefix: tuple[Piece, ...]
    item: tuple[Piece, ...]
    edge: StableEdge | None  # between prefix and item, where that is joined

    @classmethod
    def of(
        cls, prompt: Prompt, tokenizer: Tokenizer | None, vocab_size: int | None = None
    ) -> "CompiledPrompt":
        """Tokenizes the literals.

        Raises:
            BundleError: literals without a tokenizer, or a token that tokenizer or model lack.
        """
        _check_joins(prompt, tokenizer)
        prefix, item = _runs(prompt.prefix, "prompt.prefix"), _runs(prompt.item, "prompt.item")
        edge = None
        if prompt.item[0].joined:
            assert tokenizer is not None, "_check_joins"
            edge = _join(prefix, item, tokenizer)
        return cls(
            tuple(run.piece(tokenizer, vocab_size) for run in prefix if run.parts),
            tuple(run.piece(tokenizer, vocab_size) for run in item if run.parts),
            edge,
        )

    def ids(self, fields: Sequence[str], item: str, tokenizer: Tokenizer) -> NDArray[np.int64]:
        """Tokenizes a whole request, limits left out: values of the prompt's fields in order, and one item."""
        rest = iter(fields)
        filled = [
            piece.ids([item if slot.is_item else next(rest) for slot in piece.slots], tokenizer)
            if isinstance(piece, Group)
            else piece
            for piece in (*self.prefix, *self.item)
        ]
        return np.concatenate(filled)


@dataclass(slots=True)
class _Run:
    """Segments that are one text, or special tokens."""

    where: str  # of the first segment
    parts: list[str | Slot]
    special: bool = False
    edge: StableEdge | None = None  # that it begins at

    def piece(self, tokenizer: Tokenizer | None, vocab_size: int | None) -> Piece:
        """Makes ids of a literal, a group of what has a slot."""
        context, context_ids = (self.edge.context, self.edge.context_ids) if self.edge else ("", ())
        group = Group(tuple(self.parts), context, context_ids)
        if group.slots:
            return group
        known = _needed(tokenizer, self.where)
        if self.special:
            ids = np.array([_special_id(str(name), known, self.where) for name in self.parts], np.int64)
        else:
            ids = group.ids([], known)
        if vocab_size is not None and len(ids) and ids.max() >= vocab_size:
            raise BundleError(
                f"{self.where}: token id {ids.max()} is outside the model's vocabulary of {vocab_size}"
            )
        return ids

    def add(self, part: str | Slot) -> None:
        """Adds a part at the end; two texts become one."""
        if isinstance(part, str) and self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += part
        else:
            self.parts.append(part)


def _runs(segments: Sequence[Segment], where: str) -> list[_Run]:
    runs: list[_Run] = []
    for index, segment in enumerate(segments):
        if segment.special is not None:
            runs.append(_Run(f"{where}[{index}]", list(segment.special), special=True))
            continue
        if not runs or not segment.joined:
            runs.append(_Run(f"{where}[{index}]", []))
        runs[-1].add(_part(segment))
    return runs


def _part(segment: Segment) -> str | Slot:
    if segment.text is not None:
        return segment.text
    return Slot(segment.field or "item", segment.max_tokens, segment.keep, segment.item is not None)


def _join(prefix: list[_Run], item: list[_Run], tokenizer: Tokenizer) -> StableEdge:
    """Takes what is not stable of the prefix's last text over to the item's first run."""
    last, first = prefix[-1], item[0]
    literal = last.parts.pop()
    assert isinstance(literal, str), "a rule of Prompt"
    head = str(first.parts[0]) if isinstance(first.parts[0], str) else ""
    edge = find_stable_edge(
        tokenizer, literal, head, after_value=bool(last.parts), value_follows=bool(_slot(first, head))
    )
    if edge.stable:
        last.parts.append(edge.stable)
    rest = [edge.rest + head, *first.parts[1:]] if head else [edge.rest, *first.parts]
    first.parts = [part for part in rest if part != ""]
    first.edge = edge
    return edge


def _slot(run: _Run, head: str) -> bool:
    return len(run.parts) > (1 if head else 0)


def _check_joins(prompt: Prompt, tokenizer: Tokenizer | None) -> None:
    for part, segments in (("prefix", prompt.prefix), ("item", prompt.item)):
        for index, segment in enumerate(segments):
            if segment.joined and tokenizer is None:
                raise BundleError(
                    f"prompt.{part}[{index}]: joined needs a tokenizer, and the bundle has none"
                )


def _needed(tokenizer: Tokenizer | None, where: str) -> Tokenizer:
    if tokenizer is None:
        raise BundleError(f"{where}: text and special need a tokenizer, and the bundle has none")
    return tokenizer


def _special_id(name: str, tokenizer: Tokenizer, where: str) -> int:
    token = tokenizer.token_id(name)
    if token is None:
        raise BundleError(f"{where}.special: {name!r} is not in the tokenizer's vocabulary")
    return token
