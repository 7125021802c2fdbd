"""Encoder-decoders that score by the first token that they write, as monoT5, against transformers' own forward."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.cross_encoder.checks import check_cross_encoder
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.cross_encoder.plan import cross_encoder_prompt, plan_cross_encoder
from rankport.exporters.kinds.cross_encoder.proof.first_token import FirstTokenReference
from rankport.exporters.kinds.labels.label_head import label_head, readout_of
from rankport.exporters.kinds.texts.head_module import FirstStepModule
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import recipe_of
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest, LimitExceeded
from rankport.protos.types import ItemStatus
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.scorer import Scorer
from support.reading.seq2seq import t5

QUERY = "what is red"
ITEMS = ["blue shoes", "it is", "a passage: red shoes and blue boots"]
OPTIONS = {"kind": "cross-encoder", "prompt": "monot5"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t5(tmp_path_factory.mktemp("t5") / "monot5-tiny")


@pytest.fixture(scope="module")
def bundle(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder, **OPTIONS)


def published(folder: Path, query: str, items: list[str]) -> np.ndarray:
    """P(true) as pygaggle computes it: one text, one decoder step, the softmax of two logits."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    false, true = tokenizer.convert_tokens_to_ids(["▁false", "▁true"])
    start = torch.tensor([[model.config.decoder_start_token_id]])
    scores = []
    for item in items:
        ids = tokenizer(f"Query: {query} Document: {item} Relevant:", return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(input_ids=ids, decoder_input_ids=start).logits[0, -1]
        scores.append(float(logits[[true, false]].softmax(0)[0]))
    return np.array(scores)


def test_scores_are_those_of_the_published_steps(bundle: Bundle, folder: Path) -> None:
    with Scorer.load(bundle) as scorer:
        result = scorer.score(QUERY, ITEMS)
        np.testing.assert_allclose(result.scores, published(folder, QUERY, ITEMS), atol=1e-6)
        assert result.read_out == "softmax over ▁true, ▁false: ▁true"
        assert "classifies" not in scorer.capabilities
        (alone,) = scorer.score(QUERY, ITEMS[1:2]).scores
        assert alone == pytest.approx(result.scores[1], abs=1e-6)


def test_a_passage_over_its_limit_is_told_or_cut(bundle: Bundle) -> None:
    with Scorer.load(bundle) as scorer:
        long = " ".join(ITEMS * 9)
        with pytest.raises(LimitExceeded, match=r"item 1: 137 tokens .*max_item_tokens is 48"):
            scorer.score(QUERY, [ITEMS[0], long])
        result = scorer.score(QUERY, [ITEMS[0], long], truncation="truncate")
        assert result.status == (ItemStatus.OK, ItemStatus.TRUNCATED)
        cut = scorer.score(" ".join([QUERY] * 20), ITEMS, truncation="truncate")
        assert set(cut.status) == {ItemStatus.TRUNCATED}


def test_its_bundle_says_how_it_answers_and_is_proven_again(bundle: Bundle, folder: Path) -> None:
    manifest = bundle.manifest
    assert (manifest.pair and manifest.pair.cut, manifest.axes["item_tokens"].max) == ("each", 64)
    assert (manifest.limits.max_prefix_tokens, manifest.limits.max_item_tokens) == (16, 48)
    assert manifest.parity is not None
    assert [mode.mode for mode in manifest.parity.modes] == ["one_item", "batch", "pair_order", "truncation"]
    assert max(mode.max_abs_error for mode in manifest.parity.modes) <= 1e-5
    assert manifest.tokenization is not None
    assert manifest.tokenization.different == 0
    assert verify(bundle.path, folder, batch_queries=3).failures == ()


@pytest.mark.parametrize("kind", ["MT5ForConditionalGeneration", "UMT5ForConditionalGeneration"])
def test_its_kin_answer_as_their_own_forward_with_a_head_of_its_own(kind: str, tmp_path: Path) -> None:
    folder = t5(tmp_path / "c", kind, tie_word_embeddings=False, feed_forward_proj="gated-gelu")
    source = load_checkpoint(folder)
    options = CrossEncoderOptions(prompt="monot5", positive="▁false")
    prompt = cross_encoder_prompt(source, options)
    labels = plan_cross_encoder(source, prompt, options).labels
    assert labels is not None
    assert labels.positive == 1
    ids = torch.randint(2, source.vocab_size, (3, 9))
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 7 + [0] * 2])
    module = FirstStepModule(source.model, label_head(source.model, readout_of(labels)))
    with torch.no_grad(), module.answering():
        rows = module(ids, mask)
    own = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert own.lm_head.weight is not own.shared.weight
    start = torch.tensor([[own.config.decoder_start_token_id]])
    for row, text, length in zip(rows, ids, mask.sum(1), strict=True):
        with torch.no_grad():
            logits = own(input_ids=text[None, :length], decoder_input_ids=start).logits[0, -1]
        torch.testing.assert_close(row, logits[labels.ids], atol=2e-5, rtol=0)


def test_a_t5_runs_in_low_bits_too(folder: Path) -> None:
    source, ids = load_checkpoint(folder), torch.randint(2, 99, (1, 9))
    reference = FirstTokenReference(source.model, (7, 9))
    exact = reference.logits([PairIds(ids[0].numpy(), None)])
    quantize(source.model, recipe_of("int8", "onnx-cpu"), None)
    low = reference.logits([PairIds(ids[0].numpy(), None)])
    assert 0 < np.abs(low - exact).max() < 0.1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, r"is of the family monoT5, .*: --prompt monot5 is its published prompt"),
        ({"prompt": "monot6"}, r"'monot6' is neither a file nor a preset"),
        (
            {"prompt": "monot5", "cut": "only-first"},
            r"--cut only-first: .*each text within a limit of its own",
        ),
        ({"prompt": "monot5", "max_pair_tokens": 64}, r"give --max-prefix-tokens and --max-item-tokens"),
    ],
)
def test_options_that_do_not_fit_a_prompt_are_refused(
    options: dict[str, Any], error: str, folder: Path
) -> None:
    with pytest.raises(InvalidRequest, match=error):
        check_cross_encoder(folder, CrossEncoderOptions(**options))


def test_without_a_known_name_the_prompt_is_asked_for_and_it_is_one_that_writes(tmp_path: Path) -> None:
    folder = t5(tmp_path / "mine")
    with pytest.raises(InvalidRequest, match="reads a prompt, and nothing says which"):
        check_cross_encoder(folder, CrossEncoderOptions())
    assert claimed_kind(folder).name == "seq2seq"


def test_a_known_name_is_claimed(folder: Path) -> None:
    claimed = claimed_kind(folder)
    assert claimed.name == "cross-encoder"
    assert (
        "text2text-generation of transformers; T5ForConditionalGeneration of encoder and decoder"
        in claimed.reason
    )


def test_what_no_first_token_can_answer_is_refused(tmp_path: Path) -> None:
    folder = t5(tmp_path / "monot5", decoder_start_token_id=None)
    source, options = load_checkpoint(folder), CrossEncoderOptions(prompt="monot5")
    with pytest.raises(CheckpointError, match="decoder_start_token_id is None"):
        plan_cross_encoder(source, cross_encoder_prompt(source, options), options)
    source.model.config.decoder_start_token_id = 0
    source.model.generation_config.decoder_start_token_id = 5
    with pytest.raises(CheckpointError, match=r"is 5 in generation_config\.json, and 0 in config\.json"):
        plan_cross_encoder(source, cross_encoder_prompt(source, options), options)
    source.model.generation_config.decoder_start_token_id = 0
    source.model.generation_config.forced_bos_token_id = 3
    with pytest.raises(CheckpointError, match="forced_bos_token_id is 3: the first token"):
        plan_cross_encoder(source, cross_encoder_prompt(source, options), options)
