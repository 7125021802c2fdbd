"""`StableEdge`: where a text between a shared prefix and an item may be cut without changing a token.

The prefix's tokens must not depend on the item, yet ": " and "red" are one text to a tokenizer, which makes " red" of
the space. The text is cut at its last place where no tried value changes the tokens before it, and the tokens after it
are those of the whole text. A tokenizer's rules are not read: it is asked.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rankport.runtime.prompt.tokenizer import Tokenizer

_VALUES = (
    "",
    *string.ascii_letters,
    *string.digits,
    *("it is", "2024 x", "é", "\u0301", "我们", "ー", "Я", "ا", "😀"),
    *(".", ":", ",", "-", "--", "#", "'s", "'", '"', "(", "/", "_a", "<b>", ">", "##a", "@", "$5", "…", "“"),
    *(" ", "  ", " a", "   a", "\n", "\n\n", " \n", "\na", "\r\n", "\t", "\ta", "\u00a0a", "\u3000"),
)
"""Values that a tokenizer may join to a text before them."""
_BEFORE = ("", "a", "it is", "5", ".", "我们", "é", "a ", "a\n")
"""Values that a text may stand behind."""
_MAX_CUTS = 24  # of the text, from its end


@dataclass(frozen=True, slots=True)
class StableEdge:
    """A text in two: what stays in the prefix, and what is tokenized with the item."""

    stable: str
    rest: str
    context: str  # text before `rest` that the tokenizer has to see
    context_ids: tuple[int, ...]
    tried: int
    exact: int  # of the tried values: the two parts give the tokens of the whole text


def find_stable_edge(
    tokenizer: Tokenizer, text: str, head: str, *, after_value: bool, value_follows: bool
) -> StableEdge:
    """Cuts `text` at the last place where nothing that is tried changes a token; where none is, at the best.

    Args:
        text: literal at the end of the prefix.
        head: literal that follows in the item.
        after_value: a value stands before `text`, as one text with it.
        value_follows: the item's value stands behind `head`, as one text with it.
    """
    befores = _BEFORE if after_value else ("",)
    afters = [head + value for value in _VALUES] if value_follows else [head]
    whole = _encode(tokenizer, [before + text + after for before in befores for after in afters])
    best: StableEdge | None = None
    for place, context in _splits(tokenizer, text):
        heads = _encode(tokenizer, [before + text[:place] for before in befores])
        (context_ids,) = _encode(tokenizer, [context])
        rests = _encode(tokenizer, [context + text[place:] + after for after in afters])
        exact = _count_exact(whole, heads, rests, context_ids)
        if best is None or exact > best.exact:
            best = StableEdge(text[:place], text[place:], context, tuple(context_ids), len(whole), exact)
        if exact == len(whole):
            break
    assert best is not None
    return best


def _count_exact(
    whole: Sequence[list[int]], heads: Sequence[list[int]], rests: Sequence[list[int]], context: list[int]
) -> int:
    parts = [
        head + rest[len(context) :] if rest[: len(context)] == context else None
        for head in heads
        for rest in rests
    ]
    return sum(made == wanted for made, wanted in zip(parts, whole, strict=True))


def _splits(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, str]]:
    """Lists cuts and the context of the rest, the best first: without context, then the longest in the prefix."""
    ends = tokenizer.encode_spans([text])[0].ends.tolist()
    places = sorted({len(text), *ends, 0}, reverse=True)[:_MAX_CUTS]
    yield from ((place, "") for place in places)
    for place in places:
        spans = tokenizer.encode_spans([text[:place]])[0]
        if len(spans.ids):
            yield place, text[int(spans.starts[-1]) : place]
            yield place, text[:place]


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [ids.tolist() for ids in tokenizer.encode_batch(texts)]
