"""Small list rankers as their owners have them: in our own form, and in the published layout of jina-reranker-v3."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from support.lists.drafts import ITEM, NUMBERED, QUERY, tokenizer_json

_BODY: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 32,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
}


def body(**overrides: Any) -> nn.Module:
    """A random decoder over that tokenizer's vocabulary, and some rows more."""
    size = tokenizers.Tokenizer.from_str(tokenizer_json()).get_vocab_size() + 3
    torch.manual_seed(0)
    model = transformers.Qwen3Model(transformers.Qwen3Config(vocab_size=size, **_BODY | overrides)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 1:  # norms at 1 would hide one that is dropped
                weights.add_(torch.randn_like(weights) * 0.1)
    return model


def jina_checkpoint(folder: Path, **overrides: Any) -> Path:
    """The published layout: a body of Qwen3, two projector tensors, and code of its own that nobody runs."""
    folder.mkdir(parents=True, exist_ok=True)
    model = body(**overrides)
    generator = torch.Generator().manual_seed(1)
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors["projector.0.weight"] = torch.randn(12, 24, generator=generator) * 0.3
    tensors["projector.2.weight"] = torch.randn(10, 12, generator=generator) * 0.3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    raw = json.loads(model.config.to_json_string(use_diff=False))
    raw |= {"architectures": ["JinaForRanking"], "auto_map": {"AutoModel": "modeling.JinaForRanking"}}
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return folder


def form(**fields: Any) -> ListRankerConfig:
    """Our own form: numbered items, a query before and behind them, blocks of four."""
    raw = json.loads(body().config.to_json_string(use_diff=False))
    raw.pop("architectures", None)
    given = {
        "body": raw,
        "projector": [{"in_features": 24, "out_features": 6, "bias": True, "activation": "tanh"}],
        "template": NUMBERED | {"tail": [*NUMBERED["tail"], {"text": " that was all"}]},
        "item_marker": ITEM,
        "query_marker": QUERY,
        "max_items": 4,
        "max_item_tokens": 40,
        "max_query_tokens": 20,
        "max_tokens": 300,
    }
    return ListRankerConfig.model_validate(given | fields)


def checkpoint(folder: Path, **fields: Any) -> Path:
    """A list ranker of `form`, saved."""
    torch.manual_seed(2)
    ListRankerModel(form(**fields), body()).save(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return folder
