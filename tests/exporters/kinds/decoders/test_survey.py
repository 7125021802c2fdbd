"""Facts that a survey reads off a decoder, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.decoders.module import DecoderModule
from rankport.exporters.kinds.decoders.survey import Survey, survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Limits
from support import checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.causal_lm(tmp_path / "c", "qwen2", tokenizer=True)


def test_a_model_that_looks_at_token_ids_again_takes_no_embedding_tokens(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    body: Any = loaded.model.base_model
    plain = body.forward

    def looks_again(
        input_ids: torch.Tensor | None = None, position_ids: torch.Tensor | None = None, **arguments: Any
    ) -> Any:
        output = plain(input_ids=input_ids, position_ids=position_ids, **arguments)
        if input_ids is not None:
            output.last_hidden_state = output.last_hidden_state + input_ids[..., None] * 0.01
        return output

    body.forward = looks_again
    survey(DecoderModule(loaded.model, ReadOut("lm_head", (1,)), embeddings=False))
    with pytest.raises(CheckpointError, match="token ids beside their embeddings"):
        survey(DecoderModule(loaded.model, ReadOut("lm_head", (1,)), embeddings=True))


def test_a_model_that_mixes_tokens_outside_attention_is_refused(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    mlp: Any = loaded.model.base_model.layers[0].mlp  # type: ignore[union-attr, index]
    plain = mlp.forward
    mlp.forward = lambda states: plain(states) + states.cumsum(1)
    with pytest.raises(CheckpointError, match="changing one item moved another's logits"):
        survey(DecoderModule(loaded.model, ReadOut("lm_head", (1,)), embeddings=False))


def test_widths_are_read_off_the_model_and_not_its_family(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoints.causal_lm(tmp_path, "qwen3", head_dim=20, num_key_value_heads=1))
    facts = survey(DecoderModule(checkpoint.model, ReadOut("lm_head", (1,)), embeddings=False))
    assert [(layer.kv_heads, layer.head_dim) for layer in facts.layers] == [(1, 20), (1, 20)]
    assert (facts.windows, facts.bound) == ({}, None)
    assert facts.max_positions == 128


DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
TYPES = ("sliding_attention", "full_attention")


@pytest.mark.parametrize(
    ("family", "rope", "longest"),
    [
        ("llama", DYNAMIC, 128),
        ("llama", DYNAMIC | {"original_max_position_embeddings": 32}, 128),  # which no dynamic ones read
        ("llama", LONG, 32),
        ("gemma3_text", dict(zip(TYPES, (PLAIN, LONG), strict=True)), 32),
        ("gemma3_text", dict(zip(TYPES, (PLAIN, DYNAMIC), strict=True)), 128),
    ],
)
def test_rotary_frequencies_that_switch_with_length_bound_the_limits(
    family: str, rope: dict[str, Any], longest: int, tmp_path: Path
) -> None:
    layers = {"layer_types": list(TYPES), "head_dim": 8} if family == "gemma3_text" else {}
    checkpoint = load_checkpoint(checkpoints.causal_lm(tmp_path, family, rope_parameters=rope, **layers))
    kinds = [part.rope_type for part in checkpoint.model.modules() if hasattr(part, "rope_type")]
    facts = survey(DecoderModule(checkpoint.model, ReadOut("lm_head", (1,)), embeddings=False))
    facts.check_length(longest - 16, 16)
    with pytest.raises(CheckpointError, match=f"position encodings of {longest}"):
        facts.check_length(longest - 15, 16)
    assert [part.rope_type for part in checkpoint.model.modules() if hasattr(part, "rope_type")] == kinds


def test_what_attention_is_handed_and_no_graph_computes_is_refused(checkpoint: Path) -> None:
    """Inkling 2 adds a bias of places and sinks of tokens so, which were passed over until the proof missed them."""
    loaded = load_checkpoint(checkpoint)
    layer: Any = loaded.model.base_model.layers[0].self_attn  # type: ignore[union-attr, index]
    plain = layer.forward
    layer.forward = lambda *given, **more: plain(*given, **more, position_bias=torch.zeros(1))
    with pytest.raises(CheckpointError, match="Qwen2Attention attends by position_bias too"):
        survey(DecoderModule(loaded.model, ReadOut("lm_head", (1,)), embeddings=False))


def test_chunks_of_attention_bound_the_limits_and_windows_do_not() -> None:
    facts = Survey((), windows={0: 8, 1: 65}, bound=64, max_positions=None)
    facts.check_length(40, 24)
    with pytest.raises(CheckpointError, match=r"40 .* 25 = 65 exceed .* span of attention of 64"):
        facts.check_length(40, 25)


@pytest.mark.parametrize(("item", "reached"), [(24, {}), (25, {0: 64}), (26, {0: 64, 2: 65})])
def test_windows_are_those_that_prefix_and_item_exceed(item: int, reached: dict[int, int]) -> None:
    facts = Survey((), windows={0: 64, 2: 65}, bound=None, max_positions=None)
    assert facts.windows_within(Limits(max_prefix_tokens=40, max_item_tokens=item)) == reached


def test_layers_that_attend_to_what_another_one_does_keep_nothing_of_their_own(tmp_path: Path) -> None:
    types = ["sliding_attention", "full_attention"] * 2
    small = {"vocab_size_per_layer_input": checkpoints.VOCABULARY, "hidden_size_per_layer_input": 8}
    shared = {"num_hidden_layers": 4, "layer_types": types, "num_kv_shared_layers": 2}
    folder = checkpoints.causal_lm(tmp_path, "gemma4_text", **small, **shared)
    facts = survey(DecoderModule(load_checkpoint(folder).model, ReadOut("lm_head", (1,)), embeddings=False))
    assert len(facts.layers) == 2


def test_values_narrower_than_keys_are_kept_as_wide(tmp_path: Path) -> None:
    widths = {
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 6,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
    }
    folder = checkpoints.causal_lm(tmp_path, "minicpm3", num_key_value_heads=4, **widths)
    facts = survey(DecoderModule(load_checkpoint(folder).model, ReadOut("lm_head", (1,)), embeddings=False))
    assert [(layer.kv_heads, layer.head_dim) for layer in facts.layers] == [(4, 12), (4, 12)]


def test_queries_scaled_by_their_place_bound_the_limits(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(
        tmp_path, "llama4_text", num_local_experts=2, intermediate_size_mlp=48, head_dim=8, floor_scale=50
    )
    model = load_checkpoint(folder).model
    facts = survey(DecoderModule(model, ReadOut("lm_head", (1,)), embeddings=False))
    facts.check_length(25, 24)
    with pytest.raises(CheckpointError, match="position encodings of 49"):
        facts.check_length(25, 25)
    assert [part.attn_temperature_tuning for part in model.modules() if hasattr(part, "floor_scale")] == [
        True
    ] * 2


def test_a_fault_of_the_models_own_code_is_told_with_the_module_it_is_in(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path, "falcon", alibi=False)
    model = load_checkpoint(folder).model
    with pytest.raises(CheckpointError, match=r"^FalconAttention of FalconForCausalLM .*\(TypeError"):
        survey(DecoderModule(model, ReadOut("lm_head", (1,)), embeddings=False))


COMPRESSED = {
    "head_dim": 8,
    "q_lora_rank": 8,
    "o_lora_rank": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 1,
    "max_position_embeddings": 256,
    "sliding_window": 16,
    "mlp_layer_types": ["moe"],
}


@pytest.mark.parametrize(
    ("kind", "keys", "tokens"), [("compressed_sparse", 11, 9), ("heavily_compressed", 161, 160)]
)
def test_keys_of_several_tokens_together_are_refused(
    kind: str, keys: int, tokens: int, tmp_path: Path
) -> None:
    folder = checkpoints.causal_lm(tmp_path, "deepseek_v4", layer_types=[f"{kind}_attention"], **COMPRESSED)
    model = load_checkpoint(folder).model
    refused = f"DeepseekV4Attention attends to {keys} keys of {tokens} tokens: .* no place in a prefix"
    with pytest.raises(CheckpointError, match=refused):
        survey(DecoderModule(model, ReadOut("lm_head", (1,)), embeddings=False))


def test_a_linear_layer_by_the_name_of_a_convolution_is_not_blamed(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path, "openai-gpt", n_positions=64, n_embd=32, n_layer=1, n_head=4)
    model = load_checkpoint(folder).model
    with pytest.raises(CheckpointError, match=r"OpenAIGPTLMHeadModel do not go .* interface: their state"):
        survey(DecoderModule(model, ReadOut("lm_head", (1,)), embeddings=False))
