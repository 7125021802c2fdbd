"""A small list ranker that reads its items alone: a plain decoder, and its owner's list_ranker.toml beside it."""

import json
from pathlib import Path
from typing import Any

import transformers

from support.lists.drafts import tokenizer_json
from support.lists.rankers import body

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
RECIPE = r"""
max_items = 4
max_item_tokens = 40
max_query_tokens = 20
max_tokens = 200
join = "first"

[template]
head = [{ special = ["<|im_start|>"] }, { text = "user\nrank the items that answer the query:\nitems:\n" }]
item = [{ text = "[" }, { number = 1 }, { text = "] " }, { item = true }]
between = "\n"
tail = [
    { text = "\nquery: " }, { field = "query" }, { special = ["<|im_end|>"] }, { text = "\n" },
    { special = ["<|im_start|>"] }, { text = "assistant\n<think>\n\n" },
]
alone = [{ item = true }, { special = ["<|endoftext|>"] }]
"""


def decoder_checkpoint(folder: Path, recipe: str = RECIPE, **overrides: Any) -> Path:
    """A Qwen3 decoder with its head, as transformers saves one, the tokenizer of its layout, and the recipe."""
    inner = body(**{"tie_word_embeddings": False} | overrides)
    model = transformers.Qwen3ForCausalLM(inner.config)  # type: ignore[arg-type]
    model.model.load_state_dict(inner.state_dict())
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    (folder / "tokenizer.json").write_text(tokenizer_json(SPECIAL))
    (folder / "list_ranker.toml").write_text(recipe)
    return folder
