"""Decoders that read both ways as cross-encoders: NVIDIA's rerankers, by the text that they were published with."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.cross_encoder.checks import check_cross_encoder
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.protos.errors import CheckpointError, InvalidRequest, LimitExceeded
from rankport.protos.types import ItemStatus
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.scorer import Scorer
from support import checkpoints
from support.text_tokenizers import LINES, saved

CLASSIFIER = "LlamaBidirectionalForSequenceClassification"
QUERY, ITEMS = "what is it", ["blue shoes", "it is 12", "\n\nred shoes (new): boots"]
LIMITS = {"max_prefix_tokens": 64, "max_item_tokens": 40}
TOKENIZER = saved("qwen", (*LINES, "question: passage:"), ("<|begin_of_text|>",))


def reranker(folder: Path, **overrides: object) -> Path:
    """A tiny one, with a tokenizer of its kind."""
    size = tokenizers.Tokenizer.from_str(TOKENIZER).get_vocab_size()
    checkpoints.bidirectional_llama(
        folder, CLASSIFIER, vocab_size=size, num_labels=1, temperature=0.5, **overrides
    )
    (folder / "tokenizer.json").write_text(TOKENIZER)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reranker(tmp_path_factory.mktemp("nemotron") / "llama-nemotron-rerank-tiny")


@pytest.fixture(scope="module")
def bundle(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder, kind="cross-encoder", prompt="nemotron-rerank", score="logit", **LIMITS)


def test_scores_are_those_of_the_published_text(bundle: Bundle, folder: Path) -> None:
    model, tokenizer = load_checkpoint(folder).model, tokenizers.Tokenizer.from_str(TOKENIZER)
    expected = []
    for item in ITEMS:
        text = tokenizer.encode(f"question:{QUERY} \n \n passage:{item}", add_special_tokens=False).ids
        begin = tokenizer.token_to_id("<|begin_of_text|>")
        with torch.no_grad():
            expected.append(float(model(input_ids=torch.tensor([[begin, *text]])).logits[0, 0]))
    with Scorer.load(bundle) as scorer:
        result = scorer.score(QUERY, ITEMS)
        np.testing.assert_allclose(result.scores, expected, atol=1e-5)
        long = " ".join(ITEMS * 9)
        with pytest.raises(LimitExceeded, match="max_item_tokens is 40"):
            scorer.score(QUERY, [long])
        assert scorer.score(QUERY, [long], truncation="truncate").status == (ItemStatus.TRUNCATED,)


def test_heads_that_share_keys_go_into_a_graph_for_cuda(folder: Path, tmp_path: Path) -> None:
    made = export(
        folder, tmp_path / "b", kind="cross-encoder", prompt="nemotron-rerank", target="onnx-cuda", **LIMITS
    )
    assert made.manifest.parity is not None
    assert max(mode.max_abs_error for mode in made.manifest.parity.modes) <= 1e-4


def test_its_kind_is_told_by_its_folder(folder: Path) -> None:
    assert claimed_kind(folder).name == "cross-encoder"


def test_an_item_encoder_pools_as_its_config_says(tmp_path: Path) -> None:
    folder = checkpoints.bidirectional_llama(tmp_path / "c", "LlamaBidirectionalModel", num_hidden_layers=1)
    made = export(folder, tmp_path / "b", kind="item-encoder", normalize=True, max_item_tokens=24)
    assert made.manifest.embedding is not None
    assert made.manifest.embedding.pooling == "mean"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"--prompt nemotron-rerank is its published prompt"),
        (
            {"labels": ("yes",)},
            r"--labels yes: Llama\w+ answers by a head with labels of its own: --positive",
        ),
        ({"max_pair_tokens": 64}, r"--max-pair-tokens 64: Llama\w+ reads a prompt, each text within a limit"),
    ],
    ids=["no prompt", "labels", "a limit of both"],
)
def test_options_of_another_head_are_refused(folder: Path, options: dict[str, object], said: str) -> None:
    given = {"prompt": "nemotron-rerank"} | options if options else {}
    with pytest.raises(InvalidRequest, match=said):
        check_cross_encoder(folder, CrossEncoderOptions(**given))


def test_a_ranker_of_it_is_refused_and_the_way_out_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"reads both ways, by the word of config\.json, .*cross-encoder"
    ):
        export(folder, tmp_path / "b", kind="ranker", prompt="nemotron-rerank")


def test_a_decoder_that_reads_both_ways_by_one_field_is_told_too(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "lm", "llama", is_causal=False)
    with pytest.raises(CheckpointError, match="LlamaForCausalLM reads both ways"):
        export(folder, tmp_path / "b", kind="ranker", label_ids=(1, 2))
    with pytest.raises(CheckpointError, match="writes no text from left to right"):
        export(folder, tmp_path / "b", kind="generator")
    folder = checkpoints.classifier(tmp_path / "head", "gpt2", is_causal=False, num_labels=1)
    with pytest.raises(CheckpointError, match=r"reads both ways, by .* and answers by code of its own"):
        export(folder, tmp_path / "b", kind="cross-encoder", prompt="bare")


def test_what_it_says_of_its_code_is_kept(bundle: Bundle) -> None:
    assert "auto_map names code for llama_bidirec" in json.dumps(list(bundle.manifest.source.notes))
