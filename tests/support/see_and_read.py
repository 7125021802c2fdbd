"""Small random checkpoints of models that see images and read texts."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from support.checkpoints import VOCABULARY

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}
_QWEN = {
    "depth": 1,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 24,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [],
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
_OF_QWEN = {"text": {"head_dim": 8, "rope_parameters": _ROPE}, "vision": _QWEN}
_MORE: dict[str, dict[str, Any]] = {
    "gemma3": {"text": {"head_dim": 8, "sliding_window": 64}, "vision": VISION},
    "qwen3_vl": _OF_QWEN,
    "qwen3_vl_moe": _OF_QWEN,
    "mistral3": {"text": {"head_dim": 8}, "vision": {**VISION, "head_dim": 8}},
    "llama4": {"text": {}, "vision": VISION},
}


def see_and_read(folder: Path, family: str, vision: dict[str, Any] | None = None, **text: Any) -> Path:
    """A checkpoint of a family, whose text part has `text` beside `TEXT`."""
    torch.manual_seed(sum(map(ord, family)))
    more = _MORE[family]
    config = AutoConfig.for_model(
        family,
        text_config={**TEXT, "vocab_size": VOCABULARY, **more["text"], **text},
        vision_config=vision or more["vision"],
        image_token_id=90,
        tie_word_embeddings=False,
    )
    model = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder
