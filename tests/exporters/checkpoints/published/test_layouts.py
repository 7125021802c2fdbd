"""Published layouts of classes that transformers has by other names: states as the published maths make them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.protos.errors import CheckpointError
from support.published.folders import WIDTH, change
from support.published.gemma import gemma, gemma_logit
from support.published.gte import gte, gte_logits, gte_reranker, gte_states
from support.published.jina import TASKS, jina_encoder, jina_logits, jina_reranker, jina_states
from support.published.jina_bert import (
    WIDE,
    jina_bert,
    jina_bert_logits,
    jina_bert_reranker,
    jina_bert_states,
)
from support.published.lfm2 import lfm2, lfm2_states
from support.published.minicpm import minicpm, minicpm_logit
from support.published.neobert import neobert, neobert_logits, neobert_reranker, neobert_states
from support.published.nomic import nomic, nomic_moe, nomic_moe_states, nomic_states
from support.published.nv_embed import nv_embed, nv_embed_states
from support.published.qwen3 import PROJECTION, pplx, qwen3_states, voyage

IDS = [1, 9, 17, 40, 3, 77, 2]
TYPES = [0, 0, 0, 1, 1, 1, 1]
LAYERS = ["sliding_attention", "full_attention"] * 2


def states(source: Checkpoint, types: list[int] | None = None) -> torch.Tensor:
    """States of IDS, and of them padded: the same. [tokens, width]"""
    given = {} if types is None else {"token_type_ids": torch.tensor([types])}
    padded = torch.tensor([[*IDS, 0, 0, 0]])
    mask = (padded != 0).long()
    with torch.no_grad():
        alone = source.model(input_ids=torch.tensor([IDS]), **given).last_hidden_state[0]
        if types is None:
            behind = source.model(input_ids=padded, attention_mask=mask).last_hidden_state[0, : len(IDS)]
            torch.testing.assert_close(behind, alone, atol=1e-5, rtol=0)
    return alone


@pytest.mark.parametrize(
    "fields",
    [
        {},  # gte-multilingual-base
        {
            "prefix": "",
            "types": 0,
            "rope_scaling": {"factor": 2.0, "type": "ntk"},
            "rope_theta": 500000,
        },  # base-en
        {"rope_scaling": None},
        {"rope_scaling": {"factor": 1.0, "type": "ntk"}},
        {"pack_qkv": False, "unpad_inputs": True, "use_memory_efficient_attention": True},
        {"layer_norm_eps": 1e-2, "logn_attention_clip1": True},
    ],
    ids=["multilingual", "english", "not scaled", "scaled by one", "q, k, v apart", "another norm"],
)
def test_gte_computes_what_was_published(fields: dict[str, Any], tmp_path: Path) -> None:
    folder = gte(tmp_path, **fields)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), gte_states(folder, IDS), atol=1e-5, rtol=0)
    assert (source.architecture, source.model_type, source.ignored_code) == ("GteModel", "gte", ())
    assert source.notes[0] == (
        "config.json: fields and tensors are read by the names of Alibaba-NLP/new-impl; code of it, which auto_map "
        "names, was not run"
    )
    assert "left out: classifier, 2 tensors, no part of the body" in source.notes


def test_gte_tells_the_texts_of_a_pair_by_token_types(tmp_path: Path) -> None:
    folder = gte(tmp_path, types=2)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source, TYPES), gte_states(folder, IDS, TYPES), atol=1e-5, rtol=0)
    assert (states(source, TYPES) - states(source)).abs().max() > 1e-2


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"with_norms": True},
        {"prefix": "bert."},
        {"feed_forward_type": "reglu"},
        {"num_attention_heads": 8},
    ],
    ids=["english", "code", "below a head", "relu", "a power of two"],
)
def test_jinas_bert_computes_what_was_published(fields: dict[str, Any], tmp_path: Path) -> None:
    folder = jina_bert(tmp_path, **fields)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), jina_bert_states(folder, IDS), atol=1e-5, rtol=0)
    torch.testing.assert_close(states(source, TYPES), jina_bert_states(folder, IDS, TYPES), atol=1e-5, rtol=0)
    assert (source.model_type, source.hidden_size, source.ignored_code) == ("jina_bert", WIDE, ())
    code = "jina-bert-v2-qk-post-norm" if "with_norms" in fields else "jina-bert-implementation"
    assert f"read by the names of jinaai/{code}" in source.notes[0]


@pytest.mark.parametrize(
    ("make", "logits"),
    [
        (gte_reranker, gte_logits),
        (jina_reranker, jina_logits),
        (jina_bert_reranker, jina_bert_logits),
        (neobert_reranker, neobert_logits),
    ],
)
def test_rerankers_compute_what_was_published(
    make: Callable[[Path], Path], logits: Callable[[Path, list[int]], torch.Tensor], tmp_path: Path
) -> None:
    folder = make(tmp_path)
    assert StatedModel.read(folder).encoder_head == "classifier"
    with torch.no_grad():
        answered = load_checkpoint(folder).model(input_ids=torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(answered, logits(folder, IDS), atol=1e-5, rtol=0)


def test_a_count_of_labels_that_config_does_not_say_is_told(tmp_path: Path) -> None:
    folder = change(jina_bert_reranker(tmp_path), num_labels=...)
    with pytest.raises(
        CheckpointError, match=r"'classifier\..*, the config expects \[2.*: set num_labels to 1 in config"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("task", TASKS)
def test_jina_v3_has_the_adapter_of_its_task_in_its_weights(task: str, tmp_path: Path) -> None:
    folder = jina_encoder(tmp_path)
    source = load_checkpoint(folder, head="none", task=task)
    torch.testing.assert_close(states(source), jina_states(folder, IDS, task), atol=1e-5, rtol=0)
    others = (jina_states(folder, IDS, other) for other in TASKS if other != task)
    assert all((states(source) - other).abs().max() > 1e-1 for other in others)
    assert (source.task, source.instruction) == (task, TASKS[task])
    assert source.architecture == "JinaEmbeddingsV3Model"


def test_jinas_code_with_rotary_positions_needs_no_adapters(tmp_path: Path) -> None:
    folder = jina_encoder(tmp_path)
    file = folder / "model.safetensors"
    plain = {
        name.replace(".parametrizations.weight.original", ".weight"): tensor
        for name, tensor in load_file(file).items()
        if ".lora_" not in name
    }
    save_file(plain, file)
    change(folder, lora_adaptations=None, task_instructions=None)
    (folder / "modules.json").unlink()
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), jina_states(folder, IDS), atol=1e-5, rtol=0)
    assert source.task is None
    change(folder, lora_adaptations=["one"], task_instructions={"one": ""})
    with pytest.raises(CheckpointError, match="lora_adaptations names tasks, and no tensor is an adapter"):
        load_checkpoint(folder, head="none", task="one")


@pytest.mark.parametrize("task", [None, "clustering"])
def test_tasks_that_are_not_there_are_told_those_that_are(task: str | None, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"--prompt-name, one of retrieval\.query, retrieval\.passage, separation, text-mat",
    ):
        load_checkpoint(jina_encoder(tmp_path), head="none", task=task)


def test_nomic_computes_what_was_published(tmp_path: Path) -> None:
    folder = nomic(tmp_path)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), nomic_states(folder, IDS), atol=1e-5, rtol=0)
    torch.testing.assert_close(states(source, TYPES), nomic_states(folder, IDS, TYPES), atol=1e-5, rtol=0)
    assert (source.vocab_size, source.model.config.max_position_embeddings) == (128, 256)
    assert source.ignored_code == ()


@pytest.mark.parametrize("fields", [{}, {"moe_top_k": 1}, {"moe_top_k": 5}], ids=["two", "one", "all"])
def test_experts_of_nomic_compute_what_was_published(fields: dict[str, Any], tmp_path: Path) -> None:
    folder = nomic_moe(tmp_path, **fields)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), nomic_moe_states(folder, IDS), atol=1e-5, rtol=0)
    assert type(source.model).__name__ == "NomicMoeModel"


@pytest.mark.parametrize(
    ("make", "fields", "name", "width"),
    [
        (voyage, {}, "ProjectedQwen3Model", PROJECTION),
        (
            voyage,
            {"num_labels": ..., "id2label": {i: f"LABEL_{i}" for i in range(PROJECTION)}},
            "ProjectedQwen3Model",
            PROJECTION,
        ),
        (pplx, {}, "Qwen3Model", 32),
    ],
    ids=["voyage", "voyage, by its labels", "pplx"],
)
def test_qwen3_that_reads_both_ways_computes_what_was_published(
    make: Callable[..., Path], fields: dict[str, Any], name: str, width: int, tmp_path: Path
) -> None:
    folder = change(make(tmp_path), **fields)
    source = load_checkpoint(folder, head="none")
    computed = states(source)
    torch.testing.assert_close(computed, qwen3_states(folder, IDS), atol=1e-5, rtol=0)
    assert (type(source.model).__name__, computed.shape[1], source.ignored_code) == (name, width, ())
    assert StatedModel.read(folder).reads_both_ways


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model_type": "lfm2_bidirectional", "auto_map": ...},
        {"prefix": "lfm2.", "architectures": ["Lfm2BidirectionalForMaskedLM"]},
    ],
    ids=["code of its own", "a later transformers", "below a head"],
)
def test_encoders_of_lfm2_see_both_ways(fields: dict[str, Any], tmp_path: Path) -> None:
    folder = lfm2(tmp_path, **fields)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), lfm2_states(folder, IDS), atol=1e-5, rtol=0)
    assert (type(source.model).__name__, source.ignored_code) == ("BidirectionalLfm2Model", ())
    assert StatedModel.read(folder).reads_both_ways


@pytest.mark.parametrize(
    ("make", "maths", "name"),
    [(neobert, neobert_states, "NeoBertModel"), (nv_embed, nv_embed_states, "NvEmbedModel")],
)
def test_bodies_in_classes_of_our_own_compute_what_was_published(
    make: Callable[[Path], Path], maths: Callable[..., torch.Tensor], name: str, tmp_path: Path
) -> None:
    folder = make(tmp_path)
    source = load_checkpoint(folder, head="none")
    torch.testing.assert_close(states(source), maths(folder, IDS), atol=2e-5, rtol=1e-5)
    assert (type(source.model).__name__, source.ignored_code) == (name, ())


@pytest.mark.parametrize(
    ("fields", "last"),
    [({}, 2), ({"cutoff_layer": 1}, 1), ({"scale_emb": 2.0, "scale_depth": 0.7, "pad_token_id": 2}, 2)],
    ids=["the last layer", "another", "other scales"],
)
def test_a_layerwise_minicpm_is_read_at_one_of_its_layers(
    fields: dict[str, Any], last: int, tmp_path: Path
) -> None:
    folder = minicpm(tmp_path, **fields)
    source = load_checkpoint(folder)
    with torch.no_grad():
        answered = source.model(input_ids=torch.tensor([IDS])).logits
    assert float(answered) == pytest.approx(minicpm_logit(folder, IDS, last), abs=1e-4)
    assert len(source.model.base_model.layers) == last  # type: ignore[arg-type, union-attr]
    assert f"read at layer {last} of 2, by the head of that layer" in source.notes[1]
    assert (source.head, source.ignored_code) == ("classification_head", ())
    assert (StatedModel.read(folder).encoder_head, StatedModel.read(folder).outputs) == (None, 1)


@pytest.mark.parametrize(
    ("fields", "last"),
    [({}, 3), ({"cutoff_layer": 2, "final_logit_softcapping": None}, 2), ({"layer_types": LAYERS[:3]}, 3)],
    ids=["the last layer", "another, not capped", "layers by name"],
)
def test_a_lightweight_gemma_is_read_by_its_first_head(
    fields: dict[str, Any], last: int, tmp_path: Path
) -> None:
    folder = gemma(tmp_path, **fields)
    source = load_checkpoint(folder)
    with torch.no_grad():
        answered = source.model(input_ids=torch.tensor([IDS])).logits
    assert float(answered) == pytest.approx(gemma_logit(folder, IDS, last), abs=1e-4)
    assert abs(gemma_logit(folder, IDS, 1) - float(answered)) > 1e-1
    assert (
        f"read at layer {last} of 3, as cutoff_layer of config.json names one, by the first"
        in source.notes[1]
    )
    assert (source.head, source.ignored_code) == ("classification_head", ())


def test_positions_of_nomic_end_where_its_frequencies_follow_the_length(tmp_path: Path) -> None:
    source = load_checkpoint(nomic(tmp_path, rotary_scaling_factor=2), head="none")
    assert source.model.config.max_position_embeddings == 64
    assert any(note.startswith("rotary_scaling_factor 2: up to 64 tokens") for note in source.notes)


REFUSED: dict[str, tuple[Callable[..., Path], dict[str, Any], str]] = {
    "gte: positions by a table": (gte, {"position_embedding_type": "absolute"}, r"of .*new-impl only 'rope' is what"),
    "gte: another norm": (gte, {"layer_norm_type": "rms_norm"}, r"'rms_norm': of .* only 'layer_norm' is what"),
    "gte: logits scaled by length": (gte, {"logn_attention_scale": True}, r"'logn_attention_scale' is True"),
    "gte: another scaling": (gte, {"rope_scaling": {"type": "dynamic", "factor": 2}}, r"knows the type 'ntk' alone"),
    "gte: a mixed scaling": (gte, {"rope_scaling": {"type": "ntk", "factor": 2, "mixed_b": 0.6}}, r"of mixed_b are"),
    "gte: no factor": (gte, {"rope_scaling": {"type": "ntk"}}, r"factor must be a number from 1 on"),
    "gte: a slip in the scaling": (gte, {"rope_scaling": {"type": "ntk", "factr": 2}}, r"does not read 'factr'"),
    "gte: no base": (gte, {"rope_theta": ...}, r"rope_theta is missing, for which .* different defaults"),
    "gte: a text for a base": (gte, {"rope_theta": "10k"}, r"rope_theta is '10k', must be a number above 0"),
    "gte: heads of nothing": (gte, {"num_attention_heads": 0}, r"num_attention_heads is 0, must be a number above 0"),
    "gte: transformers' frequencies": (gte, {"rope_parameters": {"rope_theta": 1.0}}, r"new-impl does not read"),
    "gte: a slip": (gte, {"layer_norm_epz": 1e-5}, r"'layer_norm_epz' is 1e-05, .*is 'layer_norm_eps' meant\?"),
    "gte: a class": (gte, {"architectures": ["NewForMultipleChoice"]}, r"'NewForMultipleChoice' of .* under no name"),
    "gte: more types than rows": (gte, {"type_vocab_size": 2}, r"token_type_embeddings.weight' has shape \[1, 32\]"),
    "gte: fewer layers": (gte, {"num_hidden_layers": 1}, r"holds tensor 'layers\.1\..*no place for"),
    "gte: more layers": (gte, {"num_hidden_layers": 3}, r"lacks tensor 'layers\.2\."),
    "jina: ALiBi": (jina_reranker, {"position_embedding_type": "alibi"}, r"'alibi': of .* 'absolute' and 'rotary'"),
    "jina: no word on positions": (jina_reranker, {"position_embedding_type": ...}, r"position_embedding_type is miss"),
    "jina: another activation": (jina_reranker, {"hidden_act": "relu"}, r"hidden_act is 'relu', .* knows gelu, "),
    "jina: pairs of channels": (jina_encoder, {"rotary_emb_interleaved": True}, r"'rotary_emb_interleaved' is True"),
    "jina: no base": (jina_encoder, {"rotary_emb_base": None}, r"rotary_emb_base is None, must be a number"),
    "jina: cut embeddings": (jina_encoder, {"truncate_dim": 8}, r"'truncate_dim' is 8: of .* only None is what"),
    "jina: another rank": (jina_encoder, {"lora_rank": 8}, r"adapters of 'roberta\.\S+' have the shapes"),
    "jina: no rank": (jina_encoder, {"lora_rank": None}, r"lora_rank is None and lora_alpha 2"),
    "jina: no texts": (jina_encoder, {"task_instructions": {}}, r"task_instructions is \{\}, must have a text for "),
    "jina: tasks in one text": (jina_encoder, {"lora_adaptations": "separation"}, r"must be a list of names of tasks"),
    "jina's bert: a table of positions": (jina_bert, {"position_embedding_type": "absolute"}, r"only 'alibi' is what"),
    "jina's bert: another gate": (jina_bert, {"feed_forward_type": "swiglu"}, r"_type is 'swiglu', must be"),
    "jina's bert: no gate": (jina_bert, {"feed_forward_type": ...}, r"feed_forward_type is missing, for which"),
    "jina's bert: one way": (jina_bert, {"is_decoder": True}, r"'is_decoder' is True: of .* only False or None"),
    "jina's bert: heads": (jina_bert, {"num_attention_heads": 7}, r"48 is no multiple of num_attention_heads 7"),
    "jina's bert: a class": (jina_bert, {"architectures": ["JinaBertForTokenClassification"]}, r"under no name"),
    "jina's bert: a slip": (jina_bert, {"feed_forward_typ": "geglu"}, r"'feed_forward_typ' is 'geglu'"),
    "nomic: gated experts": (nomic, {"num_experts": 8}, r"moe_top_k is missing, for which nomic-ai/nomic-bert-2048"),
    "nomic: shares sum to 1": (nomic_moe, {"moe_normalize_expert_weights": True}, r"'moe_normalize_expert_weights' is"),
    "nomic: shared experts": (nomic_moe, {"num_shared_experts": 1}, r"'num_shared_experts' is 1: of .* only 0 is what"),
    "nomic: experts choose": (nomic_moe, {"expert_choice_router": True}, r"'expert_choice_router' is True"),
    "nomic: narrow experts": (nomic_moe, {"ffn_div": 2}, r"'ffn_div' is 2"),
    "nomic: too many chosen": (nomic_moe, {"moe_top_k": 6}, r"moe_top_k is 6, must be from 1 to the 5"),
    "nomic: no experts": (nomic_moe, {"num_experts": 0}, r"'activation_function' is 'gelu': of .* only 'swiglu'"),
    "nomic: no base": (nomic, {"rotary_emb_base": -1}, r"rotary_emb_base is -1, must be a number above 0"),
    "nomic: scaled": (nomic, {"rotary_scaling_factor": 2, "max_trained_positions": "all"}, r"is 'all', must be a"),
    "nomic: norms before": (nomic, {"prenorm": True}, r"'prenorm' is True: of .* only False is what"),
    "nomic: another MLP": (nomic, {"activation_function": "gelu"}, r"'activation_function' is 'gelu'"),
    "nomic: half rotated": (nomic, {"rotary_emb_fraction": 0.5}, r"'rotary_emb_fraction' is 0\.5"),
    "nomic: one way": (nomic, {"causal": True}, r"'causal' is True"),
    "nomic: two sizes": (nomic, {"hidden_size": 64}, r"is 64 and hidden_size is 32, which are one field"),
    "minicpm: a layer too many": (minicpm, {"cutoff_layer": 3}, r"cutoff_layer is 3, .* from 1 \(start_layer\) to 2"),
    "minicpm: a layer without": (minicpm, {"cutoff_layer": 0}, r"cutoff_layer is 0, must be a layer with a head"),
    "minicpm: layers": (minicpm, {"cutoff_layers": [1]}, r"'cutoff_layers' is \[1\], which minicpm_layerwise"),
    "minicpm: a head of tokens": (minicpm, {"head_type": "raw"}, r"'head_type' is 'raw': of .* only 'simple' is what"),
    "minicpm: one head": (minicpm, {"head_multi": False}, r"'head_multi' is False"),
    "minicpm: no scale": (minicpm, {"scale_depth": ...}, r"scale_depth is missing, for which BAAI/bge-rer"),
    "minicpm: frequencies": (minicpm, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, r"'rope_scaling' is"),
    "minicpm: more layers": (minicpm, {"num_hidden_layers": 3}, r"lacks tensor '"),
    "gemma: a head of tokens": (gemma, {"layer_wise": False}, r"'layer_wise' is False: of BAAI/bge"),
    "gemma: a layer too many": (gemma, {"cutoff_layer": 4}, r"cutoff_layer is 4, .* from 1 \(start_layer\) to 3 in st"),
    "gemma: a layer between": (gemma, {"layer_sep": 2, "cutoff_layer": 2}, r"cutoff_layer is 2, .* in steps of 2"),
    "gemma: compressed": (gemma, {"compress_ratio": 2}, r"'compress_ratio' is 2, which gemma2_layerwise of"),
    "gemma: both ways": (gemma, {"use_bidirectional_attention": True}, r"_attention' is True, which BAAI/bge-rer"),
    "neobert: positions by a table": (neobert, {"rope": False}, r"'rope' is False: of chandar-lab/NeoBERT only True"),
    "neobert: another norm": (neobert, {"rms_norm": False}, r"'rms_norm' is False"),
    "neobert: on a sphere": (neobert, {"ngpt": True}, r"'ngpt' is True: of chandar-lab/NeoBERT only False"),
    "neobert: no gate": (neobert, {"hidden_act": "GELU"}, r"'hidden_act' is 'GELU': of .* only 'SwiGLU' or 'swiglu'"),
    "neobert: no limit": (neobert, {"max_length": ...}, r"max_length is missing, for which"),
    "neobert: heads": (neobert, {"num_attention_heads": 5}, r"hidden_size 32 is no even multiple of num_att.* 5"),
    "neobert: another width": (neobert, {"hidden_size": 48}, r"qkv.weight' has shape \[96, 32\], .* expect 144 rows"),
    "neobert: a wider MLP": (neobert, {"intermediate_size": 96}, r"gate_proj.weight' has shape \[32, 32\], the conf"),
    "neobert: a class": (neobert, {"architectures": ["NeoBERTForTokenClassification"]}, r"under no name"),
    "nv-embed: one way": (nv_embed, {"mask_type": "c"}, r"'mask_type' is 'c': of nvidia/NV-Embed-v2 only 'b' is"),
    "nv-embed: no latents": (nv_embed, {"latent_attention_config": None}, r"latent_attention_config is missing"),
    "nv-embed: another body": (nv_embed, {"text_config": {"model_type": "llama"}}, r"text_config is .*'bidir_mistral'"),
    "nv-embed: a slip": (nv_embed, {"add_eoss": True}, r"'add_eoss' is True, which nv_embed of transformers"),
    "nv-embed: a class": (nv_embed, {"architectures": ["LatentAttentionModel"]}, r"under no name"),
    "lfm2: one way": (lfm2, {"is_causal": True}, r"'is_causal' is True, which LiquidAI/LFM2.5-Embedding-350M does not"),
    "lfm2: biases": (lfm2, {"conv_bias": True}, r"'conv_bias' is True: of LiquidAI/LFM2.5-Embedding-350M only False"),
    "lfm2: a class": (lfm2, {"architectures": ["Lfm2BidirectionalForTokenClassification"]}, r"under no name"),
    "voyage: one way": (voyage, {"use_bidirectional_attention": False}, r"'use_bidirectional_attention' is False: of "),
    "voyage: no word on it": (voyage, {"use_bidirectional_attention": ...}, r"use_bidirectional_attention is missing"),
    "voyage: another width": (voyage, {"num_labels": 32}, r"'linear.weight' has shape \[48, 32\], the config expects"),
    "voyage: no width": (voyage, {"num_labels": ...}, r"num_labels is None, must be the width of linear\.weight"),
    "voyage: a slip": (voyage, {"rms_norm_epsilon": 1e-5}, r"'rms_norm_epsilon' is 1e-05, .*'rms_norm_eps' meant"),
    "pplx: two ways": (pplx, {"is_causal": True}, r"'is_causal' is True, which perplexity-ai/pplx-embed-v1 does not"),
    "pplx: a class": (pplx, {"architectures": ["PPLXQwen3ForTokenClassification"]}, r"under no name"),
    "nomic: a class": (nomic, {"architectures": ["NomicVisionModel"]}, r"'NomicVisionModel' of .* under no name"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_transformers_class_does_not_compute_is_refused(case: str, tmp_path: Path) -> None:
    make, fields, said = REFUSED[case]
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(change(make(tmp_path), **fields), head="none", task="separation")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "new.encoder.layer.0.attention.qkv_proj.bias",
            None,
            r"lacks tensor 'layers\.0\.self_attn\.[kqv]_proj\.bias'",
        ),
        (
            "new.encoder.layer.0.attention.qkv_proj.bias",
            torch.zeros(3 * WIDTH - 1),
            r"'new\.encoder\.layer\.0\.attention\.qkv_proj\.bias' has shape \[95\], and holds 3 of equal size",
        ),
        (
            "new.encoder.layer.0.attention.rel",
            torch.zeros(2),
            r"holds tensor 'encoder\.layer\.0\.attention\.rel'",
        ),
        ("embeddings.LayerNorm.bias", torch.zeros(WIDTH), r"are both 'embeddings\.LayerNorm\.bias'"),
        (
            "new.encoder.layer.1.attention.o_proj.weight",
            torch.zeros(WIDTH, WIDTH, dtype=torch.float8_e4m3fn),
            r"'layers\.1\.self_attn\.o_proj\.weight' is stored as float8_e4m3fn and nothing says its scale",
        ),
        ("new.embeddings.LayerNorm.weight", torch.full((WIDTH,), torch.nan), r"holds NaN or infinity"),
    ],
    ids=["missing", "uneven", "left over", "twice", "in 8 bits", "damaged"],
)
def test_every_tensor_has_a_place(name: str, value: torch.Tensor | None, said: str, tmp_path: Path) -> None:
    folder = gte(tmp_path)
    file = folder / "model.safetensors"
    tensors = load_file(file) | {name: value}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(folder, head="none")
