"""Windows of layers as they are read off the masks that a model is given."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.decoders.module import DecoderModule
from rankport.exporters.kinds.decoders.windows import Windows, read_windows
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.protos.errors import CheckpointError
from support import checkpoints

SLIDING, FULL = "sliding_attention", "full_attention"
MOE: dict[str, Any] = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}

FAMILIES: dict[str, tuple[str, dict[str, Any], dict[int, int]]] = {
    "every layer": ("mistral", {"sliding_window": 8}, {0: 8, 1: 8}),
    "none": ("mistral", {"sliding_window": None}, {}),
    "by kind of layer": ("gemma3_text", {"sliding_window": 6, "layer_types": [FULL, SLIDING]}, {1: 6}),
    "every other layer": ("gemma2", {"sliding_window": 5}, {0: 5}),
    "of the last layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
        {1: 7},
    ),
    "told to no layer": (
        "qwen2_moe",
        {"use_sliding_window": True, "sliding_window": 7, "layer_types": [FULL, SLIDING], **MOE},
        {1: 7},
    ),
    "asked for by no one": ("qwen2", {"use_sliding_window": False, "sliding_window": 7}, {}),
}


def module_of(folder: Path, model_type: str, **overrides: Any) -> DecoderModule:
    loaded = load_checkpoint(checkpoints.causal_lm(folder, model_type, **overrides))
    return DecoderModule(loaded.model, ReadOut("lm_head", (1,)), embeddings=False)


@pytest.mark.parametrize("told", FAMILIES)
def test_windows_are_those_of_the_masks_that_layers_are_given(told: str, tmp_path: Path) -> None:
    model_type, overrides, expected = FAMILIES[told]
    assert read_windows(module_of(tmp_path, model_type, **overrides)) == Windows(expected, None)


def test_chunks_bound_what_graphs_attend_to(tmp_path: Path) -> None:
    overrides = {
        "attention_chunk_size": 16,
        "layer_types": ["chunked_attention", FULL],
        "head_dim": 8,
        "num_local_experts": 2,
        "intermediate_size_mlp": 16,
    }
    assert read_windows(module_of(tmp_path, "llama4_text", **overrides)) == Windows({}, 16)


@pytest.mark.parametrize(("sparse", "bound"), [(True, 12), (False, None)])
def test_blocks_that_a_token_chooses_bound_what_graphs_attend_to(
    sparse: bool, bound: int | None, tmp_path: Path
) -> None:
    """MiniMax M3: of more keys than it chooses a token would see all in a graph, which no sample is so long to tell."""
    layers = [FULL, "minimax_m3_sparse" if sparse else FULL]
    chosen = {"index_topk_blocks": 3, "index_block_size": 4, "index_head_dim": 8}
    overrides = {
        "layer_types": layers,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "head_dim": 8,
        **chosen,
    }
    assert read_windows(module_of(tmp_path, "minimax_m3_vl_text", **overrides)) == Windows({}, bound)


def test_a_window_that_only_the_config_states_bounds_what_graphs_attend_to(tmp_path: Path) -> None:
    module = module_of(tmp_path, "mistral", sliding_window=16)
    body: Any = module.model.base_model
    layer: Any = body.layers[0]
    plain = layer.forward

    def without_its_mask(*arguments: Any, **more: Any) -> Any:
        return plain(*arguments, **{**more, "attention_mask": None})

    layer.forward = without_its_mask
    assert read_windows(module) == Windows({1: 16}, 16)


def test_a_mask_that_is_neither_causal_nor_a_window_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.masking_utils import create_causal_mask
    from transformers.models.llama import modeling_llama

    def of_pairs(batch: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return key == query + 1

    def make(*arguments: Any, **more: Any) -> Any:
        return create_causal_mask(*arguments, **more, or_mask_function=of_pairs)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", make)
    with pytest.raises(CheckpointError, match=r"attends in layer 0 by a rule that is neither causal nor"):
        read_windows(module_of(tmp_path, "llama"))


def test_blocks_that_are_read_both_ways_are_none_of_a_text(tmp_path: Path) -> None:
    """Gemma 4 reads an image so: its rule looks places up, and a text has none in a block."""
    text = {
        "vocab_size": 101,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "global_head_dim": 16,
        "sliding_window": 16,
        "layer_types": [SLIDING, FULL],
        "use_bidirectional_attention": "vision",
    }
    tokens = {f"{name}_token_id": 90 + place for place, name in enumerate(("image", "video", "audio"))}
    config = AutoConfig.for_model("gemma4_unified", text_config=text, **tokens)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    module = DecoderModule(load_checkpoint(tmp_path).model, ReadOut("lm_head", (1,)), embeddings=False)
    assert read_windows(module) == Windows({0: 16}, None)
