"""Small models of `benchmarks.catalogue`: random ones, so that what is measured is the pipeline and not a model."""

import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rankport.sdk import export

PROMPT = """
labels = ["w1", "w2"]
[[prefix]]
field = "query"
max_tokens = 16
[[item]]
item = true
max_tokens = 16
[[item]]
text = "w3"
"""


def make_encoder(work: Path, words: int) -> None:
    """Exports a random BERT of one layer whose words are single tokens."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 32,
    }
    model = BertModel(BertConfig(vocab_size=words + 2, **shape)).eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(work / "checkpoint")
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{word}": word + 2 for word in range(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(work / "checkpoint")
    export(work / "checkpoint", work / "encoder.bundle", kind="item-encoder", pooling="mean")


def make_ranker(work: Path, words: int) -> None:
    """Exports a random decoder of one layer that reads the encoder's tokens: a server looks up what a ranker reads."""
    shape: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "intermediate_size": 128,
    }
    folder = work / "decoder"
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=words + 2, **shape)).eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    shutil.copy(work / "checkpoint" / "tokenizer.json", folder)
    (work / "prompt.toml").write_text(PROMPT)
    export(
        folder,
        work / "ranker.bundle",
        kind="ranker",
        item_encoder=work / "encoder.bundle",
        prompt=work / "prompt.toml",
    )
