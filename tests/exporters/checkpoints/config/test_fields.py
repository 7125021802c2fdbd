"""Every field of config.json is honoured, known to change nothing, or refused by name."""

from contextlib import suppress
from typing import Any

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rankport.exporters.checkpoints.config.fields import require_known_fields
from rankport.protos.errors import CheckpointError
from support.effort import full_effort

# Fields of published files beside those that the family declares today.
PUBLISHED: dict[str, dict[str, Any]] = {
    "bert": {"gradient_checkpointing": False, "position_embedding_type": "absolute", "classifier_dropout": None}
    | {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform"},
    "xlm-roberta": {"output_past": True, "language": "english", "name": "XLMRoberta", "gradient_checkpointing": False},
    "distilbert": {"tie_weights_": True, "output_past": True, "finetuning_task": "sst-2"},
    "albert": {"down_scale_factor": 1, "gap_size": 0, "net_structure_type": 0, "num_memory_blocks": 0},
    "modernbert": {"position_embedding_type": "absolute", "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    | {"layer_norm_eps": 1e-05, "norm_eps": 1e-05, "reference_compile": None, "repad_logits_with_grad": False}
    | {"global_attn_every_n_layers": 3, "initializer_cutoff_factor": 2.0, "classifier_pooling": "mean"},
    "modernbert-decoder": {"global_attn_every_n_layers": 3, "position_embedding_type": "sans_pos", "causal_mask": True}
    | {"classifier_pooling": "mean", "global_rope_theta": 160000.0, "local_rope_theta": 160000.0, "is_causal": True},
    "eurobert": {"bos_token": "<|begin_of_text|>", "mask_token": "<|mask|>", "clf_pooling": "late"},
    "gte": {"layer_norm_type": "layer_norm", "logn_attention_clip1": False, "logn_attention_scale": False}
    | {"pack_qkv": True, "position_embedding_type": "rope", "use_memory_efficient_attention": True},
    # bart-base, bart-large-cnn
    "bart": {"_num_labels": 3, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "save_step": 58}
    | {"add_bias_logits": False, "add_final_layer_norm": False, "extra_pos_embeddings": 2, "normalize_before": False}
    | {"normalize_embedding": True, "replacing_rate": 0, "force_bos_token_to_be_generated": True}
    | {"static_position_embeddings": False, "student_decoder_layers": None, "student_encoder_layers": None},
    "llava": {"ignore_index": -100, "image_token_index": 32000, "vision_feature_layer": -2},
    "deberta": {"padding_idx": 0, "pos_att_type": "c2p|p2c", "relative_attention": True, "type_vocab_size": 0},
    "deberta-v2": {"attention_head_size": 64, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3, "conv_act": "gelu"},
    # nomic-embed-text-v1.5, whose sizes are those that transformers' config begins with.
    "nomic_bert": {"activation_function": "swiglu", "attn_pdrop": 0.0, "causal": False, "dense_seq_output": True}
    | {"embd_pdrop": 0.0, "fused_bias_fc": True, "fused_dropout_add_ln": True, "layer_norm_epsilon": 1e-12}
    | {"max_trained_positions": 2048, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "n_embd": 768, "n_head": 12}
    | {"n_inner": 3072, "n_layer": 12, "n_positions": 8192, "pad_vocab_size_multiple": 64, "parallel_block": False}
    | {"parallel_block_tied_norm": False, "prenorm": False, "qkv_proj_bias": False, "reorder_and_upcast_attn": False}
    | {"resid_pdrop": 0.0, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False}
    | {"rotary_emb_scale_base": None, "rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False}
    | {"scale_attn_weights": True, "summary_proj_to_labels": True, "summary_type": "cls_index"}
    | {"summary_use_proj": True, "type_vocab_size": 2, "use_flash_attn": True, "use_xentropy": True},
    "gpt2": {"n_ctx": 1024, "n_positions": 1024, "task_specific_params": {"text-generation": {"max_length": 50}}},
    "gpt_neox": {"rotary_emb_base": 10000, "rotary_pct": 0.25},
    "llama": {"rope_theta": 500000.0, "pretraining_tp": 1, "unsloth_fixed": True, "unsloth_version": "2026.1"}
    | {"rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    | {"original_max_position_embeddings": 8192, "rope_type": "llama3"}, "temperature": 0.6, "torch_dtype": "bfloat16"},
    "mistral": {"rope_theta": 10000.0, "sliding_window": 4096},
    "qwen2": {"rope_theta": 1000000.0, "use_sliding_window": False, "max_window_layers": 28, "use_mrope": False},
    "qwen3": {"rope_theta": 1000000, "rope_scaling": None, "sliding_window": None, "max_window_layers": 28},
    "qwen3_moe": {"num_experts": 8, "head_dim": 128, "max_window_layers": 48, "use_sliding_window": False}
    | { "mlp_only_layers": [], "decoder_sparse_step": 1},
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
    | {"cache_implementation": "hybrid", "sliding_window": 4096, "sliding_window_size": 4096},
    "gemma3_text": {"rope_local_base_freq": 10000, "rope_theta": 1000000, "sliding_window_pattern": 6},
    "phi3": {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "original_max_position_embeddings": 4096, "rope_scaling": None},
    "starcoder2": {"mlp_type": "default", "norm_type": "layer_norm", "rope_theta": 1000000, "use_bias": True}
    | {"activation_function": "gelu", "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-05}
    | {"attention_softmax_in_fp32": True, "layer_norm_epsilon": 1e-05, "scale_attn_weights": True}
    | {"scale_attention_softmax_in_fp32": True},
    "cohere": {"use_parallel_block": True, "use_parallel_embedding": True, "rope_theta": 10000},
    "ernie4_5": {"compression_ratio": 1.0, "rope_theta": 500000},
    "hunyuan_v1_dense": {"attention_head_dim": 128, "head_dim": 128, "cla_share_factor": 2, "use_cla": False}
    | {"class_num": 0, "norm_type": "rms", "use_qk_norm": True, "use_rotary_pos_emb": True, "im_start_id": 4}
    | {"rope_scaling": {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0}
    | {"mscale_all_dim": 1.0, "type": "dynamic"}, "rope_theta": 10000.0},
    "cohere2": {"layer_switch": 4, "order_of_interleaved_layers": "local_attn_first", "sliding_window_pattern": 4}
    | {"position_embedding_type": "rope_gptj", "rotary_pct": 1.0, "use_gated_activation": True, "logit_scale": 0.25},
    "gpt_oss": {"experts_per_token": 4, "num_experts_per_tok": 4, "initial_context_length": 4096, "rope_theta": 150000}
    | {"rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096}
    | {"rope_type": "yarn", "truncate": False}, "swiglu_limit": 7.0},
    "falcon_h1": {"mamba_use_mlp": True, "mlp_expansion_factor": 8, "rope_theta": 100000000000.0},
    "qwen3_5_text": {"attn_output_gate": True, "output_gate_type": "swish", "mamba_ssm_dtype": "float32"}
    | {"mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False, "partial_rotary_factor": 0.25}
    | {"rope_parameters": {"mrope_interleaved": True, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25}
    | {"rope_theta": 10000000, "rope_type": "default"}},
    "granitemoehybrid": {"init_method": "mup", "normalization_function": "rmsnorm", "position_embedding_type": "rope"},
    # of families that another's model runs: EXAONE 3.5 of 2.4B
    "exaone": {"activation_function": "silu", "embed_dropout": 0.0, "head_dim": 80, "hidden_size": 2560}
    | {"intermediate_size": 7168, "layer_norm_epsilon": 1e-05, "num_layers": 30, "rope_theta": 1000000}
    | {"rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}
    | {"original_max_position_embeddings": 8192}},
    "nemotron_h": {"time_step_rank": 256, "time_step_min": 0.001, "num_logits_to_keep": 1, "use_mamba_kernels": True},
    "bamba": {"attn_rotary_emb": 64, "hidden_size": 4096, "num_attention_heads": 32, "rope_theta": 10000.0},
    "apertus": {"qk_norm": True, "post_norm": False, "hidden_act": "xielu"},
    "deepseek_v2": {"aux_loss_alpha": 0.001, "ep_size": 1, "moe_layer_freq": 1, "scoring_func": "softmax"}
    | {"seq_aux": True, "rope_theta": 10000},
    "smollm3": {"max_window_layers": 28, "use_sliding_window": False}
    | {"transformers.js_config": {"dtype": "q4"}, "_attn_implementation_autoset": True, "mlp_bias": False},
    "deepseek_v3": {"aux_loss_alpha": 0.001, "moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc"}
    | {"rope_theta": 10000, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0}
    | {"mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"}},
    "glm4_moe_lite": {"first_k_dense_replace": 1, "num_nextn_predict_layers": 1, "topk_method": "noaux_tc"}
    | {"n_group": 1, "topk_group": 1, "partial_rotary_factor": 1.0, "rope_theta": 1000000},
    "dots1": {"scoring_func": "noaux_tc", "topk_method": "noaux_tc", "moe_layer_freq": 1, "max_window_layers": 62},
    "ernie4_5_moe": {"moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_use_aux_free": True, "moe_k": 6}
    | {"num_nextn_predict_layers": 0},
    "ministral": {"rope_scaling": {"factor": 16.0, "finetuned": True, "original_max_position_embeddings": 4096}
    | {"type": "yarn"}},
    "qwen3_vl_text": {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20]}
    | {"rope_type": "default"}, "rope_theta": 5000000},
    "phi": {"qk_layernorm": False, "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    "t5": {"n_positions": 512, "output_past": True, "feed_forward_proj": "gated-gelu", "d_ff": 2816},
}  # fmt: skip
FAMILIES = (
    *PUBLISHED,
    *("mpnet", "roberta", "electra", "mixtral", "olmo2", "granite", "glm4", "exaone4", "lfm2"),
    *("gemma", "umt5", "camembert"),
)


def checked(model_type: str, raw: dict[str, Any]) -> None:
    require_known_fields(raw, transformers.CONFIG_MAPPING[model_type].from_dict(dict(raw)))


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_config_passes(family: str) -> None:
    checked(family, {"model_type": family, "architectures": ["X"], "use_cache": True} | PUBLISHED[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_transformers_writes_passes(family: str) -> None:
    checked(family, transformers.CONFIG_MAPPING[family]().to_dict())


@pytest.mark.parametrize("family", ["exaone", "internlm3", "iquestcoder", "sarvam_moe", "sarvam_mla"])
def test_sizes_of_a_family_that_anothers_model_runs_pass(family: str) -> None:
    checked(family, {"intermediate_size": 96, "hidden_act": "gelu"})


@full_effort
def test_what_transformers_writes_of_any_decoder_passes() -> None:
    written: dict[str, dict[str, Any]] = {}
    for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        with suppress(Exception):  # some have no default
            written[family] = transformers.CONFIG_MAPPING[family]().to_dict()
    assert len(written) > 100
    for family, raw in written.items():
        checked(family, raw)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "positions by a table, of a family without": (
        "modernbert",
        {"position_embedding_type": "relative_key"},
        r"'relative_key', which modernbert .* \(it knows 'absolute' or 'sans_pos' only\)",
    ),
    "labels that another field counts otherwise": (
        "bert",
        {"_num_labels": 3, "id2label": {"0": "no", "1": "yes"}},
        r"'_num_labels' is 3, which bert .* does not read",
    ),
    "dense layers that another field has elsewhere": (
        "glm4_moe_lite",
        {"first_k_dense_replace": 3},
        r"'first_k_dense_replace' is 3, which glm4_moe_lite .* does not read",
    ),
    "another's value": (
        "bert",
        {"position_embedding_type": "sans_pos"},
        r"'sans_pos', which bert .* \(it knows 'absolute' only\)",
    ),
    "a size under a name that is not read": (
        "nomic_bert",
        {"n_embd": 512},
        r"'n_embd' is 512, which nomic_bert .* does not read",
    ),
    "another base of rotary frequencies": (
        "nomic_bert",
        {"rotary_emb_base": 10000},
        r"'rotary_emb_base' is 10000, which nomic_bert .* does not read",
    ),
    "rotary frequencies scaled by length": (
        "nomic_bert",
        {"rotary_scaling_factor": 2.0},
        r"'rotary_scaling_factor' is 2.0, which nomic_bert .* does not read",
    ),
    "an attention without the gate that the model has": (
        "qwen3_5_text",
        {"attn_output_gate": "per-head"},
        r"'attn_output_gate' is 'per-head', which qwen3_5_text .* \(it knows True only\)",
    ),
    "another router": (
        "deepseek_v3",
        {"topk_method": "greedy"},
        r"'topk_method' is 'greedy', which deepseek_v3 .* \(it knows 'noaux_tc' only\)",
    ),
    "another share of rotated channels": (
        "bamba",
        {"attn_rotary_emb": 32, "hidden_size": 4096, "num_attention_heads": 32},
        r"'attn_rotary_emb' is 32, which bamba .* does not read",
    ),
    "another number of experts a token": (
        "gpt_oss",
        {"experts_per_token": 8, "num_experts_per_tok": 4},
        r"'experts_per_token' is 8, which gpt_oss .* does not read",
    ),
    "windows of some layers, of a family that does not choose": (
        "qwen3_moe",
        {"max_window_layers": 12, "use_sliding_window": True, "sliding_window": 64},
        r"'max_window_layers' is 12, which qwen3_moe .* does not read",
    ),
    "a pooling of a decoder's head": (
        "modernbert-decoder",
        {"classifier_pooling": "mean", "architectures": ["ModernBertDecoderForSequenceClassification"]},
        r"'classifier_pooling' is 'mean', which modernbert-decoder .* does not read",
    ),
    "a misspelled field": (
        "qwen3",
        {"rms_norm_epsilon": 1e-5},
        r"'rms_norm_epsilon' is 1e-05, which qwen3 .* does not read \(is 'rms_norm_eps' meant\?\)",
    ),
    "a misspelled field that is off": (
        "llama",
        {"tie_word_embedding": False},
        r"'tie_word_embedding' is False.*'tie_word_embeddings' meant",
    ),
    "another family's field": (
        "llama",
        {"final_logit_softcapping": 30.0},
        "'final_logit_softcapping' is 30.0",
    ),
    "a window that nothing applies": ("llama", {"sliding_window": 4096}, "'sliding_window' is 4096"),
    "positions that transformers dropped": (
        "bert",
        {"position_embedding_type": "relative_key"},
        r"'position_embedding_type' is 'relative_key', which bert .* \(it knows 'absolute' only\)",
    ),
    "another name with another value": (
        "gemma2",
        {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"},
        "'hidden_act' is 'gelu'",
    ),
    "fewer positions under another name": ("qwen2", {"seq_length": 512}, "'seq_length' is 512"),
    "one field twice": (
        "gpt2",
        {"n_embd": 32, "hidden_size": 64},
        "hidden_size is 64 and n_embd is 32, which are one field of gpt2: remove the wrong one",
    ),
    "two rotary bases": (
        "llama",
        {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}},
        "rope_theta is 500000.0 and 10000.0 in rope_parameters",
    ),
    "two rotary scalings": (
        "llama",
        {
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
        },
        "of which only one counts: remove the other",
    ),
    "a misspelled rotary parameter": (
        "qwen3",
        {"rope_parameters": {"rope_type": "default", "rope_tetha": 1e6}},
        r"rope_parameters has 'rope_tetha' 1000000.0, which qwen3 .* \(is 'rope_theta' meant\?\)",
    ),
    "a misspelled rotary parameter of the old field": (
        "llama",
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "betafast": 8}},
        r"rope_scaling has 'betafast' 8, .* \(is 'beta_fast' meant\?\)",
    ),
    "a misspelled rotary parameter of a kind of layers": (
        "gemma3_text",
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_teta": 1e6}}},
        r"rope_parameters has 'rope_teta' 1000000.0, .* \(is 'rope_theta' meant\?\)",
    ),
    "a field that the family declares and its router does not read": (
        "deepseek_v2",
        {"norm_topk_prob": True},
        r"'norm_topk_prob' is True, which deepseek_v2 .* declares and its model passes over: .* what False would say",
    ),
    "a number of experts that the family's router does not take": (
        "phimoe",
        {"num_experts_per_tok": 4},
        "'num_experts_per_tok' is 4, .* what 2 would say",
    ),
    "an activation that the family's experts have no other of": (
        "gpt_oss",
        {"hidden_act": "gelu"},
        "'hidden_act' is 'gelu', .* what 'silu' would say",
    ),
    "a soft-capping that the model has and applies nowhere": (
        "gemma3_text",
        {"attn_logit_softcapping": 50.0},
        r"'attn_logit_softcapping' is 50.0, .* what None would say",
    ),
    "a share of rotated channels, of a family that rotates all": (
        "llama",
        {"partial_rotary_factor": 0.5},
        r"of the type 'default' have 'partial_rotary_factor' 0.5, which llama .* does not read for that type",
    ),
    "a factor of frequencies that are not scaled": (
        "qwen3",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "factor": 4.0}},
        r"'default' have 'factor' 4.0, which qwen3",
    ),
    "YaRN's parameters of another type": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 16}},
        r"'linear' have 'beta_fast' 16, which llama",
    ),
    "a share of rotated channels, of one kind of layers": (
        "gemma3_text",
        {"rope_parameters": {"full_attention": {"rope_type": "default", "partial_rotary_factor": 0.5}}},
        "'default' have 'partial_rotary_factor' 0.5, which gemma3_text",
    ),
    "quantized weights of an old writer": ("llama", {"load_in_8bit": True}, "'load_in_8bit' is True"),
    "quantization under an old name": (
        "llama",
        {"compression_config": {"bits": 4}},
        "'compression_config' is",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_field_that_nothing_reads_is_refused_by_name(reason: str) -> None:
    family, fields, message = REFUSED[reason]
    with pytest.raises(CheckpointError, match=message):
        checked(family, {"model_type": family} | fields)


def test_a_word_of_the_config_around_may_stand_inside_too() -> None:
    for tied in (True, False):
        checked("qwen3_vl", {"tie_word_embeddings": tied, "text_config": {"tie_word_embeddings": tied}})
    with pytest.raises(
        CheckpointError, match=r"text_config: field 'tie_word_embeddings' is True, which qwen3_vl_text"
    ):
        checked("qwen3_vl", {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}})


def test_a_field_of_the_text_config_inside_is_named_with_its_place() -> None:
    with pytest.raises(CheckpointError, match=r"config.json: text_config: field 'attention_sinks' is 4"):
        checked("gemma3", {"model_type": "gemma3", "text_config": {"attention_sinks": 4}})
