"""Families of pair encoders: frames, token types and padding, each against its own class. No graph is traced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.cross_encoder.checks import check_cross_encoder
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.cross_encoder.plan import cross_encoder_prompt, plan_cross_encoder
from rankport.exporters.kinds.cross_encoder.work import WORK
from rankport.exporters.kinds.texts.head_module import head_module
from rankport.exporters.kinds.texts.pairs.frame import PairTokenizer, inputs_of
from rankport.exporters.kinds.texts.pairs.reference import PairReference
from rankport.exporters.kinds.texts.pairs.samples import sampled_pairs
from rankport.exporters.options.prompts import tokenizer_of
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.backends.layouts.padded import pad
from rankport.runtime.bundle.manifest import ManifestDraft
from support import checkpoints
from support.reading.pair_encoders import LIMIT, pair_classifier, pair_tokenizer

FAMILIES = {
    "bert": ("bert", True),
    "electra": ("bert", True),
    "albert": ("bert", True),
    "deberta-v2": ("bert", False),  # type_vocab_size 0: it has no rows for types
    "distilbert": ("roberta", False),
    "roberta": ("roberta", False),
    "xlm-roberta": ("roberta", False),
    "camembert": ("roberta", False),
    "mpnet": ("roberta", False),
    "bart": ("roberta", False),  # its decoder reads the pair again
    "modernbert": ("bert", False),  # takes none, whatever the tokenizer gives
}
SIZES = {
    "bart": {
        "decoder_layers": 1,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "decoder_attention_heads": 4,
        "id2label": {0: "irrelevant", 1: "relevant"},
        "label2id": {"irrelevant": 0, "relevant": 1},
    }
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_padded_pairs_are_answered_as_its_class_answers_each(model_type: str, tmp_path: Path) -> None:
    frame, typed = FAMILIES[model_type]
    folder = pair_classifier(tmp_path / "c", model_type, frame, **SIZES.get(model_type, {}))
    assert WORK.claims(StatedModel.read(folder))
    source = load_checkpoint(folder)
    options = CrossEncoderOptions()
    prompt = cross_encoder_prompt(source, options)
    plan = plan_cross_encoder(source, prompt, options)
    draft = ManifestDraft.model_construct(
        prompt=prompt.prompt,
        shape=plan.shape,
        limits=plan.limits,
        pair=plan.pair,
        embedding=None,
        tokenizer="t",
    )
    assert source.tokenizer_file is not None
    owner, tokenizer = PairTokenizer.of(source.tokenizer_file), tokenizer_of(source.tokenizer_file)
    inputs = inputs_of(source.model, typed=owner.frame().typed)
    assert ("token_type_ids" in inputs) == typed
    parts = sampled_pairs(draft, tokenizer, owner, inputs)  # type: ignore[arg-type]
    assert [part.mode for part in parts] == ["pair", "pair_order", "truncation"]
    for part in parts:
        arrays = pad(part.runs).inputs(len(part.runs), int(part.runs.lengths.max()), inputs)
        with torch.no_grad():
            given = {name: torch.tensor(value.array()) for name, value in arrays.items()}
            padded = head_module(source.model)(**given).numpy()
        np.testing.assert_allclose(padded, PairReference(source.model).logits(part.source), atol=2e-5)


def test_a_frame_that_segments_cannot_say_is_refused(tmp_path: Path) -> None:
    folder = pair_classifier(tmp_path / "c")
    tokenizer = pair_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A:0 [EOS]:2 $B:1", special_tokens=[("[EOS]", 2)]
    )
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        CheckpointError, match=r"the token types \[0, 2, 1\]: only 0 for the first text and 1"
    ):
        PairTokenizer.of(folder / "tokenizer.json").frame()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"max_item_tokens": 9},
            r"--max-item-tokens 9: .* that its tokenizer frames: give --max-pair-tokens",
        ),
        ({"max_prefix_tokens": 9}, r"--max-prefix-tokens 9: .*: give --max-pair-tokens"),
        ({"prompt": "bare"}, r"--prompt bare: BertFor.* by a head over two texts that its tokenizer frames"),
        ({"labels": ("yes", "no")}, r"--labels yes,no: .*: --positive says which of its labels scores"),
        ({"label_ids": (4,)}, r"--label-ids 4: .*: --positive says which of its labels scores"),
        ({"cut": "longest"}, r"--cut is 'longest': use one of longest-first, only-first, only-second"),
    ],
)
def test_options_of_other_heads_are_refused_with_the_way(
    options: dict[str, Any], error: str, tmp_path: Path
) -> None:
    folder = pair_classifier(tmp_path / "c")
    with pytest.raises(InvalidRequest, match=error):
        check_cross_encoder(folder, CrossEncoderOptions(**options))


def test_limits_follow_the_tokenizer_within_the_positions(tmp_path: Path) -> None:
    source = load_checkpoint(pair_classifier(tmp_path / "c", max_position_embeddings=40))

    def limit(**options: Any) -> int:
        chosen = CrossEncoderOptions(**options)
        pair = plan_cross_encoder(source, cross_encoder_prompt(source, chosen), chosen).pair
        assert pair is not None
        return pair.max_tokens

    assert limit() == LIMIT
    assert limit(max_pair_tokens=40) == 40
    with pytest.raises(CheckpointError, match="exceed the checkpoint's position encodings of 40"):
        limit(max_pair_tokens=41)


def test_which_label_scores_is_said_or_asked_for(tmp_path: Path) -> None:
    names = {"id2label": {0: "low", 1: "high"}, "label2id": {"low": 0, "high": 1}}
    source = load_checkpoint(pair_classifier(tmp_path / "c", **names))
    with pytest.raises(
        InvalidRequest, match="none of them are plainly the positive one: say which with --positive"
    ):
        plan_cross_encoder(source, cross_encoder_prompt(source, CrossEncoderOptions()), CrossEncoderOptions())


def test_an_encoder_decoder_whose_texts_do_not_end_where_it_reads_is_refused(tmp_path: Path) -> None:
    source = load_checkpoint(checkpoints.classifier(tmp_path / "c", "bart", **SIZES["bart"]))
    with pytest.raises(CheckpointError, match=r"answers at the last end token \(2, .* does not end a text"):
        plan_cross_encoder(source, cross_encoder_prompt(source, CrossEncoderOptions()), CrossEncoderOptions())


@pytest.mark.parametrize("model_type", ["flaubert", "xlm"])
def test_a_head_behind_a_summary_is_no_decoders(model_type: str, tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", model_type, emb_dim=32, n_heads=4, n_layers=1)
    assert WORK.claims(StatedModel.read(folder))
    check_cross_encoder(folder, CrossEncoderOptions())


def test_a_decoder_is_sent_to_its_own_kind(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", "qwen2", num_hidden_layers=1)
    for options in (CrossEncoderOptions(), CrossEncoderOptions(prompt="bare")):
        with pytest.raises(
            CheckpointError, match=r"has no head of labels that reads .* --kind ranker shares"
        ):
            check_cross_encoder(folder, options)
    source = load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"is a decoder, .*: --kind ranker shares its prefix"):
        plan_cross_encoder(source, cross_encoder_prompt(source, CrossEncoderOptions()), CrossEncoderOptions())


def test_t5gemma_is_no_decoder_and_its_head_is_refused_by_name(tmp_path: Path) -> None:
    part = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 48}
    part |= {"head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    folder = checkpoints.classifier(tmp_path / "c", "t5gemma", encoder=part, decoder=part, num_labels=1)
    pair_tokenizer("roberta").save_pretrained(folder)
    assert WORK.claims(StatedModel.read(folder))
    source = load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"a head of its own behind an encoder, .* --kind item-encoder"):
        plan_cross_encoder(source, cross_encoder_prompt(source, CrossEncoderOptions()), CrossEncoderOptions())
