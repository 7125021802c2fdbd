"""Adapters over published layouts answer as the published maths do with W + s B A in the place of W."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from rankport.sdk import Scorer
from support.effort import full_effort
from support.published.adapters import adapt
from support.published.folders import VOCABULARY, WIDTH, change
from support.published.gte import gte, gte_logits, gte_reranker, gte_states
from support.published.jina import jina_encoder, jina_logits, jina_reranker
from support.published.jina_bert import jina_bert, jina_bert_states
from support.published.neobert import neobert
from support.published.nomic import nomic, nomic_moe, nomic_moe_states, nomic_states
from support.published.qwen3 import voyage

IDS = [1, 9, 17, 40, 3, 77, 2]
GTE, MIXER = ["qkv_proj", "up_gate_proj", "down_proj"], ["mixer.Wqkv", "mixer.out_proj", "fc2"]
States = Callable[[Path, list[int]], Tensor]


def body(name: str) -> str:
    """Calls a tensor as in a bare body."""
    return name.removeprefix("new.").removeprefix("roberta.")


def below_bert(name: str) -> str:
    """Calls a tensor of Nomic's body as below its head."""
    return f"bert.{name}"


def states_of(adapter: Path) -> Tensor:
    with torch.no_grad():
        model = load_checkpoint(adapter, head="none").model
        result: Tensor = model(input_ids=torch.tensor([IDS])).last_hidden_state[0]
    return result


def logits_of(adapter: Path) -> Tensor:
    with torch.no_grad():
        result: Tensor = load_checkpoint(adapter).model(input_ids=torch.tensor([IDS])).logits[0]
    return result


NORM = {"new.encoder.layer.1.mlp_ln.weight": torch.full((WIDTH,), 1.5)}
NORM |= {"new.encoder.layer.1.mlp_ln.bias": torch.ones(WIDTH)}
NEW = {
    "new.embeddings.word_embeddings.weight": torch.linspace(-1, 1, (VOCABULARY + 8) * WIDTH).view(-1, WIDTH)
}
BODIES: dict[str, tuple[Callable[..., Path], States, list[str], dict[str, Any]]] = {
    "gte, as a body": (gte, gte_states, GTE, {"named": body}),
    "gte, below a head": (gte, gte_states, GTE, {}),
    "gte, stored without a prefix": (lambda to: gte(to, prefix=""), gte_states, GTE, {}),
    "gte, dora": (gte, gte_states, GTE, {"use_dora": True}),
    "gte, a norm saved": (gte, gte_states, GTE, {"saved": NORM, "modules_to_save": ["layer.1.mlp_ln"]}),
    "gte, embeddings too": (gte, gte_states, [*GTE, "word_embeddings"], {"named": body}),
    "gte, more tokens": (gte, gte_states, GTE, {"saved": NEW, "modules_to_save": ["word_embeddings"]}),
    "jina's bert": (jina_bert, jina_bert_states, ["query", "gated_layers", "wo"], {}),
    "nomic": (nomic, nomic_states, ["Wqkv", "fc11", "fc12", "fc2"], {}),
    "nomic, below a head": (nomic, nomic_states, ["Wqkv"], {"named": below_bert}),
    "nomic's experts": (nomic_moe, nomic_moe_states, ["Wqkv", "router.layer", "fc1"], {}),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_answers_as_the_published_maths_of_merged_weights(case: str, tmp_path: Path) -> None:
    make, states, targets, options = BODIES[case]
    base = make(tmp_path / "base")
    adapter, merged = adapt(tmp_path, base, targets, **options)
    torch.testing.assert_close(states_of(adapter), states(merged, IDS), atol=2e-5, rtol=1e-5)
    assert (states_of(adapter) - states(base, IDS)).abs().max() > 1e-1


def head_of(width: int, *names: str) -> dict[str, Tensor]:
    """Layers of a head at random, the last one as wide."""
    torch.manual_seed(3)
    rows = dict.fromkeys(names, WIDTH) | {names[-1]: width}
    return {f"{name}.weight": torch.randn(size, WIDTH) for name, size in rows.items()} | {
        f"{name}.bias": torch.randn(size) for name, size in rows.items()
    }


LABELS = {"task_type": "SEQ_CLS"}
CLASSIFIERS: dict[str, tuple[Callable[..., Path], States, list[str], dict[str, Any]]] = {
    "of a reranker": (gte_reranker, gte_logits, GTE, {"saved": head_of(1, "classifier"), **LABELS}),
    "of a reranker, none saved": (gte_reranker, gte_logits, GTE, {}),
    "of another reranker": (
        jina_reranker,
        jina_logits,
        MIXER,
        {"saved": head_of(1, "classifier.dense", "classifier.out_proj"), **LABELS},
    ),
    "that a body lacks": (
        gte,
        gte_logits,
        GTE,
        {"saved": head_of(3, "new.pooler.dense", "classifier"), "modules_to_save": ["pooler"], **LABELS},
    ),
}


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_a_classifier_has_the_head_that_was_trained(case: str, tmp_path: Path) -> None:
    make, logits, targets, options = CLASSIFIERS[case]
    adapter, merged = adapt(tmp_path, make(tmp_path / "base"), targets, **options)
    expected = logits(merged, IDS)
    torch.testing.assert_close(logits_of(adapter), expected, atol=2e-4, rtol=1e-5)
    stated = StatedModel.read(adapter)
    assert (stated.encoder_head, stated.head) == ("classifier", "classification_head")
    source = load_checkpoint(adapter)
    assert source.adapter is not None
    assert source.adapter.facts.target_modules == tuple(sorted(targets))
    assert source.dtype == str(
        load_file(tmp_path / "base" / "model.safetensors").popitem()[1].dtype
    ).removeprefix("torch.")


@full_effort
def test_a_bundle_of_an_adapter_scores_as_the_published_maths(tmp_path: Path) -> None:
    options = {"saved": head_of(1, "classifier"), **LABELS}
    adapter, merged = adapt(tmp_path, gte_reranker(tmp_path / "base"), GTE, **options)
    bundle = export(adapter, tmp_path / "bundle")
    told = bundle.manifest.source.adapter
    assert told is not None
    assert (bundle.manifest.kind, told.rank, told.base) == ("cross-encoder", 4, "base")
    pairs = Tokenizer.from_file(str(merged / "tokenizer.json"))
    ids = [list(pairs.encode("data engineer", text).ids) for text in ("nurse", "senior welder")]
    with closing(Scorer.load(bundle)) as scorer:
        result = scorer.score({"query": "data engineer"}, ["nurse", "senior welder"])
    expected = torch.stack([gte_logits(merged, pair) for pair in ids]).numpy()
    np.testing.assert_allclose(result.logits, expected, atol=2e-4)
    assert verify(bundle.path, adapter).failures == ()


def test_rows_that_an_adapter_adds_are_counted_and_noted(tmp_path: Path) -> None:
    adapter, _ = adapt(tmp_path, gte(tmp_path / "base"), GTE, saved=NEW, modules_to_save=["word_embeddings"])
    source = load_checkpoint(adapter, head="none")
    assert source.vocab_size == source.model.config.vocab_size == VOCABULARY + 8
    assert f"the adapter's vocabulary has {VOCABULARY + 8} rows, the base's {VOCABULARY}" in source.notes


REFUSED: dict[str, tuple[Callable[..., Path], list[str], dict[str, Any], dict[str, Any], str]] = {
    "tasks": (
        jina_encoder,
        ["out_proj"],
        {},
        {},
        r"an adapter for each of its tasks .* nothing says which of them",
    ),
    "other names": (
        neobert,
        ["qkv"],
        {},
        {},
        r"chandar-lab/NeoBERT, by whose names no .* where it was trained",
    ),
    "names of a Qwen3": (
        voyage,
        ["q_proj"],
        {},
        {},
        r"voyage-4-nano, by whose names no adapter is merged here",
    ),
    "low bits": (
        gte,
        GTE,
        {},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        r"new-impl and quantized \(bits",
    ),
    "a class": (
        nomic,
        ["Wqkv"],
        {"saved": head_of(2, "classifier"), **LABELS},
        {},
        r"'SEQ_CLS', over the layout of nomic",
    ),
    "no such layer": (gte, ["q_proj"], {}, {}, r"q_proj.* not found in the base"),
    "a layer of another base": (
        gte,
        GTE,
        {"layers_to_transform": [0]},
        {},
        r"holds tensor 'new\.encoder\.layer\.1\.",
    ),
    "a part left over": (
        gte,
        GTE,
        {"saved": {"new.encoder.scale": torch.ones(2)}},
        {},
        r"'new\.encoder\.scale' .* no place",
    ),
    "no pooler": (
        gte,
        GTE,
        {"saved": head_of(2, "classifier"), **LABELS},
        {},
        r"lacks tensor '.*pooler\.dense\.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_by_names_is_refused(case: str, tmp_path: Path) -> None:
    make, targets, options, fields, said = REFUSED[case]
    base = make(tmp_path / "base")
    adapter, _ = adapt(tmp_path, base, targets, **options)
    change(base, **fields)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(adapter, head="own" if LABELS.items() <= options.items() else "none")


def test_a_base_without_scales_is_refused_as_ever(tmp_path: Path) -> None:
    base = gte(tmp_path / "base")
    adapter, _ = adapt(tmp_path, base, GTE)
    name = "new.encoder.layer.0.attention.qkv_proj.weight"
    tensors = load_file(base / "model.safetensors")
    save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, base / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"qkv_proj\.weight' is stored as float8_e4m3fn and nothing says"
    ):
        load_checkpoint(adapter, head="none")
