"""Manifests of list rankers without graphs, for tests of prompts: no torch, no export."""

from typing import Any

import tokenizers

from rankport.runtime.bundle.manifest import (
    Embedding,
    Limits,
    Lists,
    ManifestDraft,
    ModelShape,
    Prompt,
    Segment,
)
from rankport.runtime.prompt.lists.list_prompt import ListPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer
from support import text_tokenizers
from support.bundle_samples import ranker_draft

ITEM, QUERY = "<|embed_token|>", "<|rerank_token|>"
SPECIAL = ("<|im_start|>", "<|im_end|>", ITEM, QUERY)
LINES = (
    *text_tokenizers.LINES,
    "You are a search relevance expert; rank passages by a numerical identifier. system user assistant",
    "hospital nurse, welder, software engineer, teacher, baker, pilot",
)
NUMBERED: dict[str, Any] = {
    "head": [{"special": ["<|im_start|>"]}, {"count": True}, {"text": " items for "}, {"field": "query"}],
    "item": [{"text": "\n"}, {"number": 1}, {"text": ": "}, {"item": True}, {"mark": "item"}, {"text": "."}],
    "tail": [{"text": "\nquery: "}, {"field": "query"}, {"mark": "query"}],
}


def tokenizer_json(special: tuple[str, ...] = SPECIAL, added: tuple[str, ...] = ("<think>",)) -> str:
    """A tokenizer of bytes that knows the markers."""
    return text_tokenizers.saved("qwen", LINES, special, added)


def raw_tokenizer() -> tokenizers.Tokenizer:
    """The library's own, for which names of special tokens in a text are those tokens."""
    return tokenizers.Tokenizer.from_str(tokenizer_json())


def lists_of(**changes: Any) -> Lists:
    """Numbered items, the query before and behind them, blocks of four items and 200 tokens."""
    known = raw_tokenizer()
    fields = {
        **NUMBERED,
        "item_marker": {"token": ITEM, "id": known.token_to_id(ITEM)},
        "query_marker": {"token": QUERY, "id": known.token_to_id(QUERY)},
        "width": 3,
        "read_out": "cosine",
        "max_items": 4,
        "max_tokens": 200,
        "join": "independent",
    }
    return Lists.model_validate(fields | changes)


def alone_lists(**changes: Any) -> Lists:
    """Numbered items that are read by themselves too, four of them inside the prompt."""
    fields = {
        "head": [{"special": ["<|im_start|>"]}, {"text": "for "}, {"field": "query"}],
        "item": [{"text": "\n"}, {"number": 1}, {"text": ": "}, {"item": True}],
        "tail": [{"text": "\nquery: "}, {"field": "query"}],
        "alone": [{"text": "item "}, {"item": True}, {"special": ["<|im_end|>"]}],
        "item_marker": None,
        "query_marker": None,
        "join": "first",
    }
    return lists_of(**(fields | changes))


def draft(lists: Lists | None = None, **changes: Any) -> ManifestDraft:
    """A list ranker's manifest: items of up to 12 tokens, or two embedding tokens of width 4."""
    fields: dict[str, Any] = {
        "kind": "list-ranker",
        "shape": ModelShape(hidden_size=4, vocab_size=raw_tokenizer().get_vocab_size(), layers=[]),
        "prompt": Prompt(prefix=[Segment(field="query")], item=[Segment(item=True)]),
        "limits": Limits(max_prefix_tokens=10, max_item_tokens=12),
        "embedding": Embedding(tokens=2, hidden_size=4, dtype="float32"),
        "labels": None,
        "score": None,
        "lists": lists or lists_of(),
    }
    return ranker_draft(**(fields | changes))


def prompt_of(lists: Lists | None = None, **changes: Any) -> ListPrompt:
    """The prompt of such a manifest."""
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(tokenizer_json()))
    return ListPrompt(draft(lists, **changes), tokenizer)
