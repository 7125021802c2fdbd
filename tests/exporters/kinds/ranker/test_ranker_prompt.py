"""The prompt of a ranker: a preset serves the heads of its family alike."""

from pathlib import Path

import pytest
import tokenizers

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.plan import ranker_prompt
from rankport.exporters.options.presets import prompt_file_of
from support import checkpoints
from support.text_tokenizers import LINES, saved

SPECIAL, ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ("<think>", "</think>")


@pytest.mark.parametrize(("head", "labels"), [("lm", ["yes", "no"]), ("classes", None)])
def test_a_preset_names_tokens_where_an_lm_head_answers(
    tmp_path: Path, head: str, labels: list[str] | None
) -> None:
    text = saved("qwen", (*LINES, "system user assistant"), SPECIAL, ADDED)
    size = tokenizers.Tokenizer.from_str(text).get_vocab_size()
    make = checkpoints.causal_lm if head == "lm" else checkpoints.classifier
    folder = make(tmp_path / "c", "qwen3", vocab_size=size, num_hidden_layers=1)
    (folder / "tokenizer.json").write_text(text)
    source = load_checkpoint(folder)
    resolved = ranker_prompt(source, RankerOptions(prompt="qwen3-reranker"))
    assert resolved.labels == labels
    assert resolved.warnings == ()
    assert resolved.prompt.fields == ("query",)
    # A file of one's own says what it says: labels beside a head are then refused.
    own = ranker_prompt(source, RankerOptions(prompt=prompt_file_of("qwen3-reranker")))
    assert own.labels == ["yes", "no"]
