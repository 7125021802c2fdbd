"""A merged adapter answers what the model did that it was saved from, and W + s B A by hand; misfits are named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.forms.adapters.config import base_of
from rankport.exporters.checkpoints.forms.adapters.merge import merge_adapter
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.protos.errors import CheckpointError, InvalidRequest
from support import checkpoints
from support.forms import adapters, pruned

TIED = {"tie_word_embeddings": True}
BOTH = ["embed_tokens", "lm_head"]
NEW = {"vocabulary": checkpoints.VOCABULARY + 10}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1}
SMALLER = {"vocabulary": checkpoints.VOCABULARY - 11}

# base's config, adapter's config; what makes each worth a test is its name.
SOUND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rank-stabilised": ({}, {"use_rslora": True}),
    "dora": ({}, {"use_dora": True}),
    "dora, rank-stabilised": ({}, {"use_dora": True, "use_rslora": True}),
    "ranks and alphas by module": ({}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 9}}),
    "all linear layers": ({}, {"target_modules": "all-linear"}),
    "a regular expression": ({}, {"target_modules": r".*layers\.1\..*(q|k)_proj"}),
    "one layer": ({}, {"layers_to_transform": [1]}),
    "biases trained": ({"attention_bias": True}, {"bias": "all"}),
    "biases of B": ({"attention_bias": True}, {"lora_bias": True, "target_modules": ["q_proj"]}),
    "fan_in_fan_out of a plain layer": ({}, {"fan_in_fan_out": True}),
    "norms saved": ({}, {"modules_to_save": ["norm"]}),
    "both saved": ({}, {"modules_to_save": BOTH}),
    "both saved, tied base": (TIED, {"modules_to_save": BOTH}),
    "embeddings saved, tied base": (TIED, {"modules_to_save": ["embed_tokens"]}),
    "head saved, tied base": (TIED, {"modules_to_save": ["lm_head"]}),
    "embeddings adapted, tied base": (TIED, {"target_modules": ["q_proj", "embed_tokens"]}),
    "head adapted, tied base": (TIED, {"target_modules": ["q_proj", "lm_head"]}),
    "both adapted, tied base": (TIED, {"target_modules": ["q_proj", *BOTH]}),
    "both adapted": ({}, {"target_modules": ["q_proj", *BOTH]}),
    "tokens trained": ({}, {"trainable_token_indices": [3, 7]}),
    "tokens of each trained, tied base": (
        TIED,
        {"trainable_token_indices": {"embed_tokens": [3, 7], "lm_head": [4]}},
    ),
    "more tokens, both saved": ({}, {"modules_to_save": BOTH, **NEW}),
    "more tokens, both saved, tied base": (TIED, {"modules_to_save": BOTH, **NEW}),
    "more tokens, embeddings saved, tied base": (TIED, {"modules_to_save": ["embed_tokens"], **NEW}),
    "more tokens, untrained": ({}, NEW),
    "more tokens, both adapted": ({}, {"target_modules": ["q_proj", *BOTH], **NEW}),
    "more tokens, embeddings adapted, tied base": (
        TIED,
        {"target_modules": ["q_proj", "embed_tokens"], **NEW},
    ),
    "more tokens, trained alone": ({}, {"trainable_token_indices": list(range(101, 111)), **NEW}),
    "rows alone": ({}, {"token_indices": [3, 7]}),
    "more rows alone, of both tables": (
        {},
        {"token_indices": list(range(101, 111)), "target_modules": BOTH, **NEW},
    ),
    "fewer tokens, both saved": ({}, {"modules_to_save": BOTH, **SMALLER}),
    "fewer tokens, embeddings saved": ({}, {"modules_to_save": ["embed_tokens"], **SMALLER}),
}
STILL_TIED: dict[str, dict[str, Any]] = {
    "layers adapted": {},
    "embeddings saved as twins": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "both saved as twins": {"modules_to_save": BOTH, "ensure_weight_tying": True},
    "embeddings adapted as twins": {
        "target_modules": ["q_proj", "embed_tokens"],
        "ensure_weight_tying": True,
    },
    "tokens trained": {"trainable_token_indices": [3, 7]},
    "more tokens, untrained": NEW,
    "more tokens, saved as twins": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True, **NEW},
    "more tokens, trained alone": {"trainable_token_indices": list(range(101, 111)), **NEW},
    "rows alone": {"token_indices": [3, 7], "target_modules": ["embed_tokens"]},
    "more rows alone": {"token_indices": list(range(101, 111)), **NEW},
}


def ids(rows: int) -> Tensor:
    """Token ids up to the last row of the vocabulary."""
    return torch.cat([torch.arange(3, 18), rows - 1 - torch.arange(15)]).reshape(2, 15)


def merged(base: Path, adapter: Path) -> Any:
    return merge_adapter(load_checkpoint(base).model, adapter)[0]


@pytest.mark.parametrize("case", SOUND)
def test_a_merged_adapter_answers_as_the_model_it_was_saved_from(case: str, tmp_path: Path) -> None:
    of_base, of_adapter = SOUND[case]
    base = checkpoints.causal_lm(tmp_path / "base", "llama", **of_base)
    trained = adapters.lora(tmp_path / "adapter", base, **of_adapter)
    tokens = ids(of_adapter.get("vocabulary", checkpoints.VOCABULARY))
    model = merged(base, trained.folder)
    assert (adapters.outputs(model, tokens) - trained.outputs(tokens)).abs().max() <= 1e-5
    assert not model.config.tie_word_embeddings
    assert model.lm_head.out_features == model.config.vocab_size == model.model.embed_tokens.num_embeddings


@pytest.mark.parametrize("case", STILL_TIED)
def test_a_head_stays_tied_where_training_kept_it_equal(case: str, tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama", **TIED)
    trained = adapters.lora(tmp_path / "adapter", base, **STILL_TIED[case])
    tokens = ids(STILL_TIED[case].get("vocabulary", checkpoints.VOCABULARY))
    model = merged(base, trained.folder)
    assert (adapters.outputs(model, tokens) - trained.outputs(tokens)).abs().max() <= 1e-5
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.tie_word_embeddings
    assert (model.lm_head.in_features, model.lm_head.out_features) == (32, model.config.vocab_size)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / math.sqrt(4))])
def test_merged_weights_are_w_plus_scaled_b_a_by_hand(rslora: bool, scale: float, tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen2")
    trained = adapters.lora(tmp_path / "adapter", base, use_rslora=rslora, modules_to_save=["lm_head"])
    by_hand = adapters.merged_by_hand(base, trained.folder, scale)
    assert (adapters.outputs(merged(base, trained.folder)) - adapters.outputs(by_hand)).abs().max() <= 1e-5


def test_transposed_layers_are_merged_transposed(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "gpt2", n_inner=48, n_layer=2, n_head=4, n_embd=32)
    trained = adapters.lora(tmp_path / "adapter", base, target_modules=["c_attn"], fan_in_fan_out=True)
    model = merged(base, trained.folder)
    assert (adapters.outputs(model) - trained.outputs()).abs().max() <= 1e-5


def test_experts_are_adapted_as_parameters(tmp_path: Path) -> None:
    """Stored [experts, out, in] here, where gpt-oss has [experts, in, out]."""
    base = checkpoints.causal_lm(tmp_path / "base", "qwen3_moe", **EXPERTS)
    targets = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    trained = adapters.lora(tmp_path / "adapter", base, target_modules=["q_proj"], target_parameters=targets)
    model, facts = merge_adapter(load_checkpoint(base).model, trained.folder)
    assert (adapters.outputs(model) - trained.outputs()).abs().max() <= 1e-5
    assert (adapters.outputs(model) - adapters.outputs(load_checkpoint(base).model)).abs().max() > 1e-3
    assert facts.target_modules == ("q_proj", *targets)


def test_a_classifier_gets_its_head_from_the_adapter(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen3")
    trained = adapters.lora(tmp_path / "adapter", base, kind="classifier", labels=3, task_type="SEQ_CLS")
    model, facts = merge_adapter(load_checkpoint(base).model, trained.folder)
    assert type(model).__name__ == "Qwen3ForSequenceClassification"
    assert model.score.out_features == 3
    assert facts.modules_to_save == ("classifier", "score")
    with torch.no_grad():
        hidden = model.base_model(adapters.IDS, use_cache=False).last_hidden_state[:, -1]
        of_trained = trained.model.base_model.model.model(adapters.IDS, use_cache=False).last_hidden_state[
            :, -1
        ]
        expected = trained.model.base_model.model.score(of_trained)
        assert (model.score(hidden) - expected).abs().max() <= 1e-5


ENCODERS = {
    "bert": (AutoModelForMaskedLM, "pooler."),
    "roberta": (AutoModelForMaskedLM, ""),
    "modernbert": (AutoModel, "head."),
}
"""Classes of bases without a head of labels, and what of their classifier neither they nor adapters hold."""


def encoder_and_adapter(tmp_path: Path, family: str, **config: Any) -> tuple[Path, adapters.Trained]:
    """Makes an encoder as it comes from its pre-training, and a classifier of three labels trained over it."""
    auto, lost = ENCODERS[family]
    base = checkpoints.save(tmp_path / "base", auto, family, False, {})
    options = {"kind": "classifier", "labels": 3, "task_type": "SEQ_CLS", "target_modules": "all-linear"}
    kept = {"modules_to_save": [f"{lost.removesuffix('.')}"]} if lost else {}
    return base, adapters.lora(tmp_path / "adapter", base, **{**options, **kept, **config})


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_without_a_head_is_the_classifier_that_the_adapter_was_trained_as(
    family: str, tmp_path: Path
) -> None:
    base, trained = encoder_and_adapter(tmp_path, family)
    loaded = load_checkpoint(trained.folder, base=base)
    named = StatedModel.read(trained.folder, base)
    assert named.architecture == loaded.architecture == type(trained.model.base_model.model).__name__
    assert (named.head, named.encoder_head, named.outputs) == ("classification_head", "classifier", 3)
    model: Any = loaded.model
    with torch.no_grad():
        expected = trained.model(input_ids=adapters.IDS).logits
        assert expected.shape == (2, 3)
        torch.testing.assert_close(model(input_ids=adapters.IDS).logits, expected, atol=1e-5, rtol=0)


def test_labels_of_such_an_adapter_are_called_as_its_base_says_where_it_names_as_many(tmp_path: Path) -> None:
    base, trained = encoder_and_adapter(tmp_path, "roberta")
    for names, expected in ((["low", "medium", "high"], "low"), (["yes", "no"], "LABEL_0")):
        pruned.edit_config(base, id2label=dict(enumerate(names)))
        model: Any = load_checkpoint(trained.folder, base=base).model
        assert model.config.num_labels == 3
        assert model.config.id2label[0] == expected


def test_a_config_beside_such_an_adapter_says_what_its_labels_are(tmp_path: Path) -> None:
    """No tensor does, and those of the base are of another head."""
    base, trained = encoder_and_adapter(tmp_path, "roberta")
    pruned.edit_config(base, id2label={"0": "old", "1": "older", "2": "oldest"})
    own = {"model_type": "roberta", "problem_type": "multi_label_classification"}
    for names, expected in ((["low", "medium", "high"], "low"), (["LABEL_0", "LABEL_1", "LABEL_2"], "old")):
        stated = own | {"id2label": dict(enumerate(names))}
        (trained.folder / "config.json").write_text(json.dumps(stated))
        model: Any = load_checkpoint(trained.folder, base=base).model
        assert (model.config.id2label[0], model.config.problem_type) == (expected, own["problem_type"])
        assert StatedModel.read(trained.folder, base).outputs == 3


def test_a_config_beside_an_adapter_over_a_causal_lm_says_so_too(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen3")
    trained = adapters.lora(tmp_path / "adapter", base, kind="classifier", labels=3, task_type="SEQ_CLS")
    own: dict[str, Any] = {"model_type": "qwen3", "problem_type": "multi_label_classification"}
    names = {"0": "low", "1": "medium", "2": "high"}
    file = trained.folder / "config.json"
    for stated, expected in ((names, "low"), ({"0": "no", "1": "yes"}, "LABEL_0")):
        file.write_text(json.dumps(own | {"id2label": stated}))
        model: Any = load_checkpoint(trained.folder, base=base).model
        assert (model.config.id2label[0], model.config.num_labels) == (expected, 3)
        assert model.config.problem_type == own["problem_type"]
    file.write_text(json.dumps(own | {"id2label": {"0": "low", "1": "medium", "last": "high"}}))
    with pytest.raises(CheckpointError, match="id2label names the output 'last': must be a number"):
        load_checkpoint(trained.folder, base=base)


def test_a_causal_lm_is_the_tagger_that_the_adapter_was_trained_as(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen3")
    trained = adapters.lora(tmp_path / "adapter", base, kind="tagger", labels=3, task_type="TOKEN_CLS")
    names = {"0": "O", "1": "B-city", "2": "I-city"}
    (trained.folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "id2label": names}))
    stated = StatedModel.read(trained.folder)
    assert (stated.head, stated.architecture) == ("token_head", "Qwen3ForTokenClassification")
    source = load_checkpoint(trained.folder)
    model: Any = source.model
    assert (adapters.outputs(model) - trained.outputs()).abs().max() <= 1e-5
    assert list(model.config.id2label.values()) == list(names.values())
    assert source.notes == ("left out: lm_head, 1 tensor, no part of the body",)
    adapters.edit_config(trained.folder, task_type=None)
    with pytest.raises(
        CheckpointError, match=r"'score\.bias'.*state task_type 'TOKEN_CLS' in adapter_config\.json"
    ):
        load_checkpoint(trained.folder)


def test_a_part_of_such_a_head_that_nobody_stored_is_named(tmp_path: Path) -> None:
    base, trained = encoder_and_adapter(tmp_path, "modernbert", modules_to_save=None)
    message = r"lacks tensor 'head\.dense\.weight' .* save the adapter with 'head' in modules_to_save"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(trained.folder, base=base)


def test_of_such_an_adapter_the_body_alone_is_merged_where_no_head_is_asked_for(tmp_path: Path) -> None:
    base, trained = encoder_and_adapter(tmp_path, "roberta")
    model: Any = load_checkpoint(trained.folder, base=base, head="none").model
    body = trained.model.base_model.model.roberta
    with torch.no_grad():
        expected = body(input_ids=adapters.IDS).last_hidden_state
        actual = model(input_ids=adapters.IDS).last_hidden_state
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["causal", "body"])
def test_bodies_and_whole_models_take_each_others_adapters(kind: str, tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    trained = adapters.lora(tmp_path / "adapter", base, kind=kind, modules_to_save=["norm"])
    body = trained.model.base_model.model.base_model
    for head in ("none", "own"):
        model, _ = merge_adapter(load_checkpoint(base, head=head).model, trained.folder)
        assert (adapters.outputs(model.base_model) - adapters.outputs(body)).abs().max() <= 1e-5


def test_facts_say_what_was_merged(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama", **TIED)
    trained = adapters.lora(tmp_path / "adapter", base, modules_to_save=BOTH, **NEW)
    _, facts = merge_adapter(load_checkpoint(base).model, trained.folder)
    assert (facts.peft_type, facts.rank, facts.alpha) == ("LORA", 4, 6)
    assert facts.target_modules == ("down_proj", "q_proj", "v_proj")
    assert facts.modules_to_save == ("embed_tokens", "lm_head")
    assert facts.base == str(base)
    assert facts.notes == (
        "the adapter's vocabulary has 111 rows, the base's 101",
        "the adapter trained embeddings and LM head apart: they are no longer tied",
    )


def test_a_recipe_of_lists_beside_an_adapter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen3")
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    (adapter / "list_ranker.toml").write_text("max_items = 20\n")
    with pytest.raises(CheckpointError, match=r"list_ranker\.toml lies beside an adapter.*merge_and_unload"):
        load_checkpoint(adapter, base=base)


# Fields of adapter_config.json that cannot be merged, and what the message names.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "prompt tuning": ({"peft_type": "PROMPT_TUNING"}, "peft_type 'PROMPT_TUNING' .* cannot be merged"),
    "another method": ({"peft_type": "LOHA"}, r"'LOHA' is not LORA: merge it with peft's merge_and_unload"),
    "no method": ({"peft_type": None}, "peft_type None"),
    "no rows": ({"peft_type": "TRAINABLE_TOKENS"}, "token_indices is None, must be a list of token ids"),
    "rows of an expression": (
        {"peft_type": "TRAINABLE_TOKENS", "token_indices": [3], "target_modules": ".*embed.*"},
        r"target_modules of TRAINABLE_TOKENS is '\.\*embed\.\*', must be names of tables",
    ),
    "changed base": ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' .*path_initial_model"),
    "activated within prompts": ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
    "repeated layers": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "newer peft": ({"use_tomorrow": True}, "'use_tomorrow' is unknown .* upgrade peft"),
    "no rank": ({"r": 0}, "r is 0, must be a number above 0"),
    "a word": ({"use_rslora": "false"}, "use_rslora is 'false', must be true or false"),
    "no such modules": ({"target_modules": ["query_key_value"]}, "query_key_value.* not found in the base"),
    "modules of the wrong type": (
        {"target_modules": {"q_proj": 1}},
        "target_modules is .* list of module names",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_cannot_be_merged_is_refused_by_field(case: str, tmp_path: Path) -> None:
    fields, message = REFUSED[case]
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    adapters.edit_config(adapter, **fields)
    with pytest.raises(CheckpointError, match=message):
        merged(base, adapter)


Q = "base_model.model.model.layers.0.self_attn.q_proj"
DAMAGED: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "missing": ({f"{Q}.lora_B.weight": None}, r"lacks tensor 'model\.layers\.0.*q_proj\.lora_B\.weight'"),
    "left over": ({f"{Q}.lora_C.weight": torch.ones(2)}, r"holds tensor 'model\.layers\.0.*lora_C.*no place"),
    "of another shape": (
        {f"{Q}.lora_A.weight": torch.ones(4, 64)},
        r"'model\.layers\.0.*lora_A\.weight' has shape \[4, 64\], this base needs \[4, 32\].*another base",
    ),
    "not a number": ({f"{Q}.lora_A.weight": torch.full((4, 32), math.nan)}, r"lora_A\.weight' holds NaN"),
    "not by peft": (
        {"layers.0.q_proj.lora_A.weight": torch.ones(2)},
        "does not start with 'base_model.model.'",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_tensor_that_does_not_belong_is_named(case: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[case]
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    adapters.edit_tensors(adapter, changes)
    with pytest.raises(CheckpointError, match=message):
        merged(base, adapter)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"hidden_size": 64}, r"shape \[4, 32\], this base needs \[4, 64\]"),
        ({"num_hidden_layers": 3}, r"lacks tensor 'model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"holds tensor 'model\.layers\.1\."),
    ],
)
def test_an_adapter_of_another_base_is_refused_with_its_base(
    shape: dict[str, int], message: str, tmp_path: Path
) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    other = checkpoints.causal_lm(tmp_path / "other", "llama", **shape)
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    with pytest.raises(
        CheckpointError, match=f"{message}.*names base '{base}': is it an adapter of another base"
    ):
        merged(other, adapter)


def test_new_rows_of_a_head_that_nobody_stored_are_refused(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama", **TIED)
    adapter = adapters.lora(tmp_path / "adapter", base, modules_to_save=["embed_tokens"], **NEW).folder
    prefix = "base_model.model."
    adapters.edit_tensors(adapter, {f"{prefix}lm_head.weight": None})
    with pytest.raises(CheckpointError, match=r"111 tokens and the base has 101.*head's new rows are lost"):
        merged(base, adapter)


def test_embeddings_and_head_of_different_vocabularies_are_refused(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    adapter = adapters.lora(tmp_path / "adapter", base, modules_to_save=BOTH).folder
    adapters.edit_tensors(adapter, {"base_model.model.lm_head.weight": torch.ones(103, 32)})
    with pytest.raises(CheckpointError, match=r"disagree about the size of the vocabulary.*lm_head.*103"):
        merged(base, adapter)


def test_a_pickled_adapter_is_never_loaded(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin is a pickle.*safe_serialization=True"):
        merged(base, adapter)


def test_the_base_is_the_one_given_or_the_one_named(tmp_path: Path) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "llama")
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    assert base_of(adapter, None) == base
    moved = base.rename(tmp_path / "moved")
    assert base_of(adapter, moved) == moved
    with pytest.raises(InvalidRequest, match=r"is an adapter of '.*base', which is no folder here.*--base"):
        base_of(adapter, None)
    adapters.edit_config(adapter, base_model_name_or_path="Qwen/Qwen3-0.6B")
    with pytest.raises(InvalidRequest, match=r"adapter of 'Qwen/Qwen3-0\.6B'"):
        base_of(adapter, None)


def test_a_quantized_base_and_an_adapter_as_base_are_refused(tmp_path: Path) -> None:
    quantized = checkpoints.causal_lm(tmp_path / "base", "llama")
    adapter = adapters.lora(tmp_path / "adapter", quantized).folder
    config = (quantized / "config.json").read_text().rstrip().removesuffix("}")
    (quantized / "config.json").write_text(config + ', "quantization_config": {"quant_method": "fp8"}}')
    with pytest.raises(CheckpointError, match=r"is quantized \(fp8\).*full precision"):
        base_of(adapter, None)
    with pytest.raises(CheckpointError, match="is an adapter itself"):
        base_of(adapter, adapter)


def test_a_config_beside_an_adapter_that_says_otherwise_is_not_ignored(tmp_path: Path) -> None:
    """LLM2Vec publishes adapters over a causal base, whose code has them read both ways."""
    base = checkpoints.body(tmp_path / "base", "mistral", num_hidden_layers=1)
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    own, stated = adapter / "config.json", json.loads((base / "config.json").read_text())
    own.write_text(json.dumps(stated | {"torch_dtype": "float16", "_name_or_path": "x", "rope_theta": 5.0}))
    assert load_checkpoint(adapter, head="none").notes == load_checkpoint(base, head="none").notes
    own.write_text(json.dumps(stated | {"rms_norm_eps": 1e-3}))
    (note,) = load_checkpoint(adapter, head="none").notes
    assert note == "config.json beside the adapter is not read but the base's, which differs in rms_norm_eps"
    own.write_text(json.dumps(stated | {"is_causal": False}))
    with pytest.raises(
        CheckpointError,
        match=r"read both ways, and .*base/config\.json.*, from left to right: have is_causal in both",
    ):
        load_checkpoint(adapter, head="none")
    own.write_text(json.dumps(stated | {"auto_map": {"AutoModel": "own.MistralEncoderModel"}}))
    with pytest.raises(
        CheckpointError, match=r"MistralEncoderModel of own\.py\).*is_causal false in its config"
    ):
        load_checkpoint(adapter, head="none")
    code = load_checkpoint(adapter, head="none", ignore_remote_code=True).ignored_code
    assert code == ("config.json: auto_map: AutoModel is MistralEncoderModel of own.py",)
    (base / "config.json").write_text(own.read_text())
    assert load_checkpoint(adapter, head="none", ignore_remote_code=True).ignored_code == code
