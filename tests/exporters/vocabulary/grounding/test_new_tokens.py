"""New tokens as a grounded folder names them: known to transformers, and with ids of their own."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from rankport.exporters.vocabulary.grounding.ground import ground
from rankport.exporters.vocabulary.grounding.options import GroundingOptions
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.text_tokenizers import saved


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """Pairs of text and tokens, and the tokens to add."""
    pairs, tokens = tmp_path / "pairs.jsonl", tmp_path / "tokens.txt"
    lines = [{"text": f"nurse {code}", "tokens": [f"<a_{code}>"]} for code in range(4)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokens.write_text("".join(f"<a_{code}>\n" for code in range(4)))
    return pairs, tokens


def test_transformers_knows_the_new_tokens_where_its_class_makes_a_tokenizer_anew(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    """Published tokenizer_config.json lists the added tokens, and Qwen's class takes no others."""
    source, start = tmp_path / "c", "<|endoftext|>"
    own = tokenizers.Tokenizer.from_str(saved("qwen", special=(start,)))
    size = own.get_vocab_size()
    checkpoints.causal_lm(source, "qwen3", tie_word_embeddings=True, vocab_size=size)
    own.save(str(source / "tokenizer.json"))
    listed = {str(size - 1): {"content": start, "special": True}}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": start, "added_tokens_decoder": listed}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    pairs, tokens = inputs
    ground(source, pairs, tmp_path / "out", add=tokens, options=GroundingOptions(epochs=0))
    read: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert read("<a_3><a_0>")["input_ids"] == [size + 3, size]


def test_new_tokens_never_get_the_ids_of_others(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Tokens are counted for the next id by `tokenizers`, whatever ids they have."""
    source = checkpoints.causal_lm(tmp_path / "c", "qwen3", tokenizer=True)
    file = source / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["apart"] = 90
    file.write_text(json.dumps(content))
    pairs, tokens = inputs
    with pytest.raises(CheckpointError, match="has ids up to 90 with some missing"):
        ground(source, pairs, tmp_path / "out", add=tokens)
