"""Fields of published config.json files that no model reads and that change nothing of what one computes.

Owns the table. A field goes here only if every value (or every value listed) leaves the maths alone.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

ANY_VALUE = frozenset(
    {
        # who wrote the file, and of what
        *(
            "transformers.js_config",
            "_attn_implementation_autoset",
            "is_llama_config",
            "matryoshka_dimensions",
        ),
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "architectures"),
        *("trained_from", "export_model_type"),
        *("model_type", "torch_dtype", "dtype", "finetuning_task", "language", "license", "name", "tags"),
        *("trl_version", "peft_version", "adapter_transformers_version"),
        # read by the loaders of forms and by those who read folders of sentence-transformers
        *("expansion", "quantization_config", "auto_map", "sentence_transformers", "tokenizer_class"),
        "sbert_ce_default_activation_function",
        # what the tensors show: one without a place, or a place without one, is an error by itself
        *("attention_bias", "mlp_bias", "qkv_bias", "use_bias", "bias", "lm_head_bias", "add_bias_linear"),
        *("add_qkv_bias", "use_qk_norm", "qk_layernorm", "org_vocab_size", "pack_qkv"),
        *("mamba_use_mlp", "mlp_expansion_factor", "time_step_rank"),
        # how it was trained
        *("gradient_checkpointing", "pretraining_tp", "freeze_base", "layerdrop", "neftune_noise_alpha"),
        *("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "init_method"),
        *("aux_loss_alpha", "seq_aux", "ep_size", "sparse_prediction", "sparse_pred_ignore_index"),
        *("ignore_index", "save_step", "num_nextn_predict_layers"),
        *("router_aux_loss_coef", "output_router_logits", "label_smoothing", "loss_type", "problem_type"),
        *("initializer_factor", "init_std", "block_mlp_init_scale", "block_out_init_scale"),
        *("block_use_xavier_init", "conv_use_xavier_init"),
        # how it is run or generates, as far as no logit depends on it
        *("use_cache", "output_past", "torchscript", "return_dict", "task_specific_params", "prefix"),
        *("cache_implementation", "attn_implementation", "_attn_implementation", "_flash_attn_2_enabled"),
        *(
            "_attn_implementation_internal",
            "_experts_implementation_internal",
            "use_bfloat16",
            "fp32",
            "fp16",
            "bf16",
        ),
        *(
            "use_flash_attn",
            "mamba_ssm_dtype",
            "use_memory_efficient_attention",
            "reference_compile",
            "deterministic_flash_attn",
        ),
        *(
            "dense_seq_output",
            "fused_bias_fc",
            "fused_dropout_add_ln",
            "use_xentropy",
            "pad_vocab_size_multiple",
        ),
        *("repad_logits_with_grad", "use_parallel_embedding", "custom_pipelines", "predict_special_tokens"),
        *("model_max_length", "tokenizer_model_max_length", "tokenizer_padding_side", "padding_side"),
        # of TensorFlow's BERT and ELECTRA, and of heads that a family never had
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("summary_proj_to_labels", "summary_type", "summary_use_proj"),
        *("pooler_size_per_head", "pooler_type", "tie_weights_", "output_hidden_states", "output_attentions"),
        # of Hunyuan: features that fields beside them switch on
        *("cla_share_factor", "dense_list", "pool_type"),
        # what transformers works out of layer_types or of a pattern beside them
        *("_sliding_window_pattern", "sliding_window_pattern"),
    }
)
_PATTERNS = (
    re.compile(r"_?unsloth_.*"),
    # Nothing is dropped outside of training.
    re.compile(r".*(dropout|pdrop|drop_prob|drop_rate|dropout_prob)"),
    # Ids of tokens are the tokenizer's business, and the model classes that read one declare it.
    re.compile(r"(.*_)?ids?"),
    # Nor does a model read their texts (EuroBERT).
    re.compile(r"(bos|eos|pad|mask|unk|cls|sep)_token"),
)
ONE_VALUE: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "position_embedding_type": ("absolute",),
        "down_scale_factor": (1,),
        "gap_size": (0,),
        "net_structure_type": (0,),
        "num_memory_blocks": (0,),
        "mlp_type": ("default",),
        "norm_type": ("layer_norm", "rms"),
        "class_num": (0,),
        "use_rotary_pos_emb": (True,),
        "full_attn_mod": (1,),
        "interpolate_factor": (1,),
        "use_parallel_block": (True,),
        "compression_ratio": (1.0,),
        "block_use_swiglu": (True,),
        "use_pos_enc": (True,),
        "layer_norm_type": ("layer_norm",),
        "moe_layer_freq": (1,),
        "rotary_pct": (1.0,),
        "use_embedding_sharing": (True,),
        "use_gated_activation": (True,),
    }
)
"""Fields that say nothing new at these values, and something that no model here does at others."""

OF_FAMILY: Mapping[tuple[str, str], tuple[object, ...]] = MappingProxyType(
    {
        ("modernbert", "position_embedding_type"): ("sans_pos",),  # mmBERT, Ettin: rotary, no table
        ("modernbert-decoder", "position_embedding_type"): ("sans_pos",),
        ("modernbert-decoder", "causal_mask"): (True,),
        ("gte", "position_embedding_type"): ("rope",),
        ("cohere2", "position_embedding_type"): ("rope_gptj",),
        ("cohere2", "order_of_interleaved_layers"): ("local_attn_first",),
        ("cohere2", "layer_switch"): (4,),  # sliding_window_pattern, whose default it is
        ("bart", "extra_pos_embeddings"): (2,),
        ("bart", "force_bos_token_to_be_generated"): (True,),  # kinds that write read it, `stated_writing`
        ("bart", "normalize_embedding"): (True,),
        ("bart", "replacing_rate"): (0,),
        ("starcoder2", "activation_function"): ("gelu",),  # published beside the hidden_act that counts
        ("starcoder2", "attention_softmax_in_fp32"): (True,),
        ("starcoder2", "scale_attention_softmax_in_fp32"): (True,),
        ("starcoder2", "scale_attn_weights"): (True,),
        ("modernbert-decoder", "is_causal"): (True,),
        ("deepseek_v2", "scoring_func"): ("softmax",),
        ("deepseek_v3", "scoring_func"): ("sigmoid",),
        ("deepseek_v3", "topk_method"): ("noaux_tc",),
        ("glm4_moe_lite", "topk_method"): ("noaux_tc",),
        ("dots1", "scoring_func"): ("noaux_tc",),  # by sigmoids, as its own code has that name
        ("dots1", "topk_method"): ("noaux_tc",),
        ("ernie4_5_moe", "moe_gate"): ("topk",),
        ("ernie4_5_moe", "moe_capacity"): ([64, 64, 64],),  # of as many experts: none drops a token
        ("ernie4_5_moe", "moe_use_aux_free"): (True,),
        ("qwen3_5_text", "attn_output_gate"): (True,),
        ("qwen3_5_text", "output_gate_type"): ("swish",),
        ("qwen3_5_moe_text", "attn_output_gate"): (True,),
        ("qwen3_5_moe_text", "output_gate_type"): ("swish",),
        ("granitemoehybrid", "normalization_function"): ("rmsnorm",),
        ("hunyuan_v1_dense", "num_experts"): (1,),
        ("hunyuan_v1_dense", "routed_scaling_factor"): (1.0,),
        ("apertus", "qk_norm"): (True,),
        # as nomic-embed-text-v1 and v1.5 are published: transformers' model computes nothing else
        ("nomic_bert", "activation_function"): ("swiglu",),
        ("nomic_bert", "rotary_emb_fraction"): (1.0,),
        ("nomic_bert", "scale_attn_weights"): (True,),
    }
)
"""Fields like these of one family, whose model does at these values what another's would not."""

LEFT_ASIDE = frozenset(
    {
        # what the tensors show
        *("expansion_ratio", "mamba_proj_bias", "n_shared_experts"),
        # how it was trained, or is run
        *("router_jitter_noise", "add_router_probs", "mtp_loss_scaling_factor"),
        *("init_device", "residual_in_fp32", "mamba_ssm_cache_dtype", "use_mem_eff_path"),
        "moe_shared_expert_overlap",
        # of texts that are written, which `stated_writing` reads of the files that count
        *("max_length", "max_new_tokens", "length_penalty", "encoder_no_repeat_ngram_size"),
        *("suppress_tokens", "begin_suppress_tokens", "median_filter_width", "langs"),
        *("unk_index", "mask_index"),
    }
)
"""Fields that some family's config declares and its model leaves aside, rightly at every value."""

PASSED_OVER: Mapping[tuple[str, str], tuple[object, ...]] = MappingProxyType(
    {
        ("gemma3_text", "attn_logit_softcapping"): (None,),
        ("phimoe", "num_experts_per_tok"): (2,),
    }
)
"""Fields that a family's model has and computes nothing with, and the values that say what it computes."""

TWINS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hidden_act": ("hidden_activation",),
        "hidden_activation": ("hidden_act",),
        "activation_function": ("hidden_act",),
        "sliding_window_size": ("sliding_window",),
        "layer_norm_eps": ("norm_eps", "layer_norm_epsilon", "rms_norm_eps"),
        "layer_norm_epsilon": ("layer_norm_eps", "norm_eps", "norm_epsilon", "rms_norm_eps"),
        "norm_eps": ("rms_norm_eps", "layer_norm_eps"),
        "block_norm_eps": ("norm_eps",),
        "n_inner": ("intermediate_size",),
        "conv_dim": ("hidden_size",),
        "conv_dim_out": ("hidden_size",),
        "block_dim": ("hidden_size",),
        "attention_head_size": ("head_dim",),
        "attention_head_dim": ("head_dim",),
        "embedding_size": ("hidden_size",),
        "emb_size": ("hidden_size",),
        "num_layers": ("num_hidden_layers",),
        "n_layer": ("num_hidden_layers",),
        "n_embd": ("hidden_size",),
        "n_head": ("num_attention_heads",),
        "num_heads": ("num_attention_heads",),
        "experts_per_token": ("num_experts_per_tok",),
        "clf_pooling": ("classifier_pooling",),
        "padding_idx": ("pad_token_id",),
        "_num_labels": ("num_labels",),
    }
)
"""Second names that some writers give a field beside the one that counts: both must say the same."""

LENGTHS = (
    *("n_ctx", "n_positions", "seq_length", "max_seq_length", "max_seq_len", "max_sequence_length"),
    "max_trained_positions",
)
"""Lengths that a text may have: no less than those of the model's positions."""


def harmless_values(field: str, config: object) -> tuple[object, ...]:
    """Lists the values at which a field changes nothing and others would, for the family of `config`."""
    family = str(getattr(config, "model_type", ""))
    return (*ONE_VALUE.get(field, ()), *OF_FAMILY.get((family, field), ()))


def is_harmless(field: str, value: object, config: object) -> bool:
    """Tells whether a field that `config` does not declare, and no model reads, changes nothing at this value."""
    if field in ANY_VALUE or any(pattern.fullmatch(field) for pattern in _PATTERNS):
        return True
    if value in harmless_values(field, config):
        return True
    if field in LENGTHS:
        positions = getattr(config, "max_position_embeddings", None)
        return not isinstance(positions, int) or (isinstance(value, int) and value >= positions)
    rope = getattr(config, "rope_parameters", None) or {}
    if field in ("theta", "rotary_emb_base"):
        return bool(value == rope.get("rope_theta"))
    if field == "attn_rotary_emb":  # of Bamba: channels of a head that are rotated
        return bool(value == _head_width(config) * rope.get("partial_rotary_factor", 1))
    if field == "initial_context_length":  # of gpt-oss
        return bool(value == rope.get("original_max_position_embeddings"))
    if field == "max_window_layers":  # of families whose layers Qwen's windows do not choose
        return not getattr(config, "use_sliding_window", False)
    if field == "first_k_dense_replace":  # of GLM-4.7 Flash, which has them in a list
        kinds = getattr(config, "mlp_layer_types", None) or []
        return bool(kinds) and isinstance(value, int) and bool(kinds == _dense_first(value, len(kinds)))
    if field == "classifier_pooling":  # of ModernBERT's decoder, whose head reads the last token
        return not any(
            "ForSequenceClassification" in name for name in getattr(config, "architectures", None) or ()
        )
    return any(value is not None and getattr(config, twin, None) == value for twin in TWINS.get(field, ()))


def _dense_first(dense: int, layers: int) -> list[str]:
    return ["dense"] * dense + ["sparse"] * (layers - dense)


def _head_width(config: object) -> float:
    heads = getattr(config, "num_attention_heads", None) or 1
    return float(getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) / heads)
