"""Folders in published layouts, from the command to answers of the runtime: those of the published maths."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from rankport.sdk import ItemEncoder, Scorer
from support import checkpoints
from support.cli import rankport
from support.effort import full_effort
from support.published.gte import gte, gte_logits, gte_reranker, gte_states
from support.published.jina import TASKS, jina_encoder, jina_logits, jina_reranker, jina_states
from support.published.jina_bert import (
    WIDE,
    jina_bert,
    jina_bert_logits,
    jina_bert_reranker,
    jina_bert_states,
)
from support.published.nomic import nomic, nomic_moe, nomic_moe_states, nomic_states
from support.sentence_folders import change, state_modules, write

TEXTS = ["senior welder", "nurse and pilot of the data", "cook"]
Logits = Callable[[Path, list[int]], torch.Tensor]


def pooled(folder: Path, mode: str, width: int = 32) -> Path:
    """Adds the files of sentence-transformers: pooled so, then normalized."""
    state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": width, f"pooling_mode_{mode}": True})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False})
    return folder


def ids_of(folder: Path, *texts: str) -> list[int]:
    """Reads one text, or a pair, by the folder's tokenizer.json."""
    return list(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(*texts).ids)


def unit(rows: Sequence[torch.Tensor]) -> NDArray[np.float32]:
    stacked = torch.stack(list(rows))
    return (stacked / stacked.norm(dim=-1, keepdim=True)).numpy()


def jina_bert_logits_of_pairs(folder: Path, ids: list[int]) -> torch.Tensor:
    """Logits of a pair in BERT's frame: what stands behind the first end is of the other type."""
    first = ids.index(ids[-1]) + 1
    return jina_bert_logits(folder, ids, [0] * first + [1] * (len(ids) - first))


def encoded(bundle: Bundle) -> NDArray[np.float32]:
    with closing(ItemEncoder.load(bundle)) as encoder:
        return encoder.encode(TEXTS)[:, 0]


def test_an_encoder_with_the_files_of_sentence_transformers(tmp_path: Path) -> None:
    folder = pooled(gte(tmp_path / "gte"), "cls_token")
    args = ["export", folder, "--out", tmp_path / "b", "--output-dtype", "float32"]
    assert "GteModel without a head, pooled by its modules.json" in rankport(*args).stderr
    bundle = open_bundle(tmp_path / "b")
    expected = unit([gte_states(folder, ids_of(folder, text))[0] for text in TEXTS])
    np.testing.assert_allclose(encoded(bundle), expected, atol=1e-5)
    assert bundle.manifest.limits.max_item_tokens == 40
    assert bundle.manifest.parity is not None
    assert "over a copy with tensors renamed, on 24 texts" in (bundle.manifest.parity.reference or "")
    assert [mode.mode for mode in bundle.manifest.parity.modes] == [
        "one_item",
        "batch",
        "sentence_transformers",
    ]
    assert verify(bundle.path, folder).failures == ()


@full_effort
def test_nomic_is_exported_without_a_word_on_its_code(tmp_path: Path) -> None:
    folder = pooled(nomic(tmp_path / "nomic"), "mean_tokens")
    bundle = export(folder, tmp_path / "b", output_dtype="float32")
    expected = unit([nomic_states(folder, ids_of(folder, text)).mean(0) for text in TEXTS])
    np.testing.assert_allclose(encoded(bundle), expected, atol=1e-5)
    assert bundle.manifest.source.ignored_code == []


@full_effort
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_alibi_of_jinas_bert_is_in_the_graph(quantize: str | None, tmp_path: Path) -> None:
    folder = pooled(jina_bert(tmp_path / "jina", with_norms=True), "mean_tokens", WIDE)
    bundle = export(folder, tmp_path / "b", output_dtype="float32", quantize=quantize)
    expected = unit([jina_bert_states(folder, ids_of(folder, text)).mean(0) for text in TEXTS])
    np.testing.assert_allclose(encoded(bundle), expected, atol=1e-5 if quantize is None else 5e-2)
    assert bundle.manifest.source.architecture == "JinaBertForMaskedLM"
    assert bundle.manifest.parity is not None
    compared = [mode.mode for mode in bundle.manifest.parity.modes]
    assert ("sentence_transformers" in compared) == (quantize is None)
    assert verify(bundle.path, folder).failures == ()


def test_experts_are_routed_in_the_graph_as_in_the_source(tmp_path: Path) -> None:
    folder = pooled(nomic_moe(tmp_path / "moe"), "mean_tokens")
    bundle = export(folder, tmp_path / "b", output_dtype="float32")
    expected = unit([nomic_moe_states(folder, ids_of(folder, text)).mean(0) for text in TEXTS])
    np.testing.assert_allclose(encoded(bundle), expected, atol=1e-5)
    assert bundle.manifest.source.architecture == "NomicMoeModel"
    assert verify(bundle.path, folder).failures == ()


@pytest.mark.parametrize(
    ("make", "logits"),
    [
        (gte_reranker, gte_logits),
        pytest.param(jina_reranker, jina_logits, marks=full_effort),
        pytest.param(jina_bert_reranker, jina_bert_logits_of_pairs, marks=full_effort),
    ],
)
def test_rerankers_score_pairs(make: Callable[[Path], Path], logits: Logits, tmp_path: Path) -> None:
    folder = make(tmp_path / "c")
    told = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.4.0"}
    change(folder, "config.json", sentence_transformers=told)
    bundle = export(folder, tmp_path / "b")
    assert bundle.manifest.kind == "cross-encoder"
    assert bundle.manifest.parity is not None
    assert "sentence_transformers" in [mode.mode for mode in bundle.manifest.parity.modes]
    with closing(Scorer.load(bundle)) as scorer:
        result = scorer.score({"query": "data engineer"}, TEXTS)
    expected = torch.stack([logits(folder, ids_of(folder, "data engineer", text)) for text in TEXTS])
    np.testing.assert_allclose(result.logits, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(result.scores, torch.sigmoid(expected[:, 0]).numpy(), atol=1e-5)
    assert verify(bundle.path, folder).failures == ()


def test_a_bundle_of_jina_v3_is_of_one_task(tmp_path: Path) -> None:
    folder, task = jina_encoder(tmp_path / "jina"), "retrieval.passage"
    refused = rankport("export", folder, "--out", tmp_path / "b")
    assert refused.returncode == 1
    assert f"--prompt-name, one of {', '.join(TASKS)} (lora_adaptations)" in refused.stderr
    bundle = export(folder, tmp_path / "b", prompt_name=task, output_dtype="float32")
    texts = [TASKS[task] + text for text in TEXTS]
    expected = unit([jina_states(folder, ids_of(folder, text), task).mean(0) for text in texts])
    np.testing.assert_allclose(encoded(bundle), expected, atol=1e-5)
    assert bundle.manifest.source.task == task
    assert bundle.manifest.parity is not None
    assert f"JinaEmbeddingsV3Model with its adapter of {task} in" in (bundle.manifest.parity.reference or "")
    assert "sentence_transformers" in [mode.mode for mode in bundle.manifest.parity.modes]
    assert verify(bundle.path, folder).failures == ()
    assert f"{task}: its adapter is in the weights" in rankport("inspect", bundle.path).stdout


def test_a_task_of_two_texts_is_refused(tmp_path: Path) -> None:
    folder = jina_encoder(tmp_path / "jina")
    change(folder, "config_sentence_transformers.json", prompts=TASKS | {"retrieval.query": "query: "})
    with pytest.raises(
        CheckpointError,
        match=r"puts 'query of the engineer ' before a text of retrieval\.query, and .* 'query: '",
    ):
        export(folder, tmp_path / "b", prompt_name="retrieval.query")


@pytest.mark.parametrize(
    ("kwargs", "said"), [(["task", "truncate_dim"], "arguments of a call"), (["task"], "own")]
)
def test_a_module_of_the_same_name_is_no_other_models(kwargs: list[str], said: str, tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "bert", tokenizer=True)
    entry = {"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer", "kwargs": kwargs}
    if said == "own":
        entry.pop("kwargs")
    (folder / "modules.json").write_text(json.dumps([entry]))
    with pytest.raises(CheckpointError, match=said):
        export(folder, tmp_path / "b", kind="item-encoder")
