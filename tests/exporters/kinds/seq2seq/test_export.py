"""Encoder-decoders are exported, proven in every mode, and write what transformers' `generate` writes."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.seq2seq.options import Seq2SeqOptions
from rankport.exporters.kinds.seq2seq.plan import plan_seq2seq, seq2seq_prompt
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.generation import GenerateResult, Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import Decoding, Generation, LayerKV
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.table import open_bundle
from support import checkpoints
from support.effort import full_effort
from support.reading import seq2seq

TEXTS = ["red shoes", "Query: blue boots", "a", "is it relevant: yes no true", "12 boots 3.5 (new)"]
ENDS = tuple(range(3, 430, 30))
RULES = {
    "num_beams": 3,
    "no_repeat_ngram_size": 2,
    "min_length": 5,
    "max_length": 13,
    "forced_bos_token_id": 7,
    "forced_eos_token_id": ENDS[0],
    "eos_token_id": [431, *ENDS],
    "length_penalty": 0.5,
    "early_stopping": True,
    "repetition_penalty": 1.3,
}


class Source:
    """The checkpoint in transformers."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def beams(self, text: str, count: int, **settings: Any) -> list[tuple[list[int], float]]:
        """Gives the tokens and score of what it writes, without the start and what is behind the end."""
        out = self.model.generate(
            **self.tokenizer(text, return_tensors="pt"),
            num_return_sequences=count,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
        scores = out.sequences_scores.tolist() if count > 1 else [0.0]
        return list(zip([row[1:] for row in out.sequences.tolist()], scores, strict=True))


@pytest.fixture(scope="module")
def source(seq2seq_checkpoint: Path) -> Source:
    return Source(seq2seq_checkpoint)


def write(bundle: Bundle, texts: Sequence[str], sampling: Sampling) -> list[GenerateResult]:
    """Writes all at once."""
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        futures = [generator.submit_generate(text, sampling) for text in texts]
        return [future.result() for future in futures]


def same_beams(result: GenerateResult, expected: list[tuple[list[int], float]], ends: Sequence[int]) -> None:
    assert len(result.beams) == len(expected)
    for beam, (ids, score) in zip(result.beams, expected, strict=True):
        count = len(beam.token_ids)
        assert list(beam.token_ids) == ids[:count]
        assert beam.finish_reason == ("stop" if ids[count : count + 1] and ids[count] in ends else "length")
        assert beam.score == pytest.approx(score, abs=1e-4)
    assert (result.token_ids, result.text) == (result.beams[0].token_ids, result.beams[0].text)


def test_every_mode_holds(seq2seq_bundle: Bundle) -> None:
    parity, generation = seq2seq_bundle.manifest.parity, seq2seq_bundle.manifest.generation
    assert parity is not None
    assert [mode.mode for mode in parity.modes] == ["alone", "together", "staggered", "beams", "to_the_end"]
    assert max(mode.max_abs_error for mode in parity.modes) < 1e-4
    assert generation is not None
    assert generation.decoding is not None
    assert generation.decoding.start_id == 430


def test_greedy_texts_are_those_of_transformers(seq2seq_bundle: Bundle, source: Source) -> None:
    sampling = Sampling(max_tokens=24, stop_ids=ENDS, repetition_penalty=1.2)
    results = write(seq2seq_bundle, TEXTS, sampling)
    for text, result in zip(TEXTS, results, strict=True):
        ends = [431, *ENDS]
        [(ids, _)] = source.beams(
            text, 1, max_new_tokens=24, eos_token_id=ends, do_sample=False, repetition_penalty=1.2
        )
        stopped = result.finish_reason == "stop"
        assert [*result.token_ids, *ids[len(ids) - stopped :]] == ids
        assert result.text == source.tokenizer.decode(result.token_ids, skip_special_tokens=True)
    assert {result.finish_reason for result in results} == {"stop", "length"}


@pytest.mark.parametrize(("width", "penalty"), [(2, 1.0), (4, 2.0), (5, 0.0)])
def test_beams_are_those_of_transformers(
    seq2seq_bundle: Bundle, source: Source, width: int, penalty: float
) -> None:
    sampling = Sampling(max_tokens=16, stop_ids=ENDS, beams=width, length_penalty=penalty)
    for text, result in zip(TEXTS, write(seq2seq_bundle, TEXTS, sampling), strict=True):
        expected = source.beams(
            text,
            width,
            num_beams=width,
            max_new_tokens=16,
            eos_token_id=[431, *ENDS],
            length_penalty=penalty,
        )
        same_beams(result, expected, [431, *ENDS])


def test_all_rules_together_are_those_of_transformers(seq2seq_bundle: Bundle, source: Source) -> None:
    generation = Generation(
        stop_ids=[431, *ENDS],
        repetition_penalty=1.3,
        decoding=Decoding(
            start_id=430,
            first_id=7,
            last_id=ENDS[0],
            min_tokens=4,
            no_repeat_ngram=2,
            beams=3,
            length_penalty=0.5,
            early_stopping=True,
        ),
    )
    for text, result in zip(TEXTS, write(ruled(seq2seq_bundle, generation), TEXTS, Sampling()), strict=True):
        same_beams(result, source.beams(text, 3, **RULES), [431, *ENDS])
        assert all(beam.token_ids[0] == 7 for beam in result.beams)
    greedy = write(ruled(seq2seq_bundle, generation), TEXTS, Sampling(beams=1))
    for text, result in zip(TEXTS, greedy, strict=True):
        [(ids, _)] = source.beams(
            text, 1, **RULES | {"num_beams": 1, "early_stopping": False, "length_penalty": 1.0}
        )
        assert [*result.token_ids, ids[-1]] == ids
        assert result.finish_reason == "stop"  # the last token that a text may have is an end


def ruled(bundle: Bundle, generation: Generation) -> Bundle:
    """Gives the bundle with other rules of writing, for texts of up to 12 tokens."""
    manifest = bundle.manifest
    limits = manifest.limits.model_copy(update={"max_item_tokens": 12})
    changed = manifest.model_copy(update={"generation": generation, "limits": limits})
    return replace(bundle, manifest=with_own_fingerprint(changed))


def test_bart_is_read_and_written_up_to_its_last_position(tmp_path: Path) -> None:
    source = load_checkpoint(seq2seq.bart(tmp_path / "c"))
    prompt = seq2seq_prompt(source, Seq2SeqOptions())
    plan = plan_seq2seq(source, prompt, Seq2SeqOptions())
    assert (plan.limits.max_prefix_tokens, plan.limits.max_item_tokens) == (40, 40)
    assert plan.shape.layers == [LayerKV(kv_heads=4, head_dim=8)]
    with pytest.raises(CheckpointError, match=r"--max-item-tokens 41: exceeds .* encodings of 40 tokens"):
        plan_seq2seq(source, prompt, Seq2SeqOptions(max_item_tokens=41))


def test_a_bundle_is_verified_against_its_checkpoint_alone(
    seq2seq_bundle: Bundle, seq2seq_checkpoint: Path
) -> None:
    assert not verify(seq2seq_bundle.path, seq2seq_checkpoint).failures


LOW_BITS = [
    pytest.param("t5", "int8"),
    *(pytest.param("t5", bits, marks=full_effort) for bits in ("int8-fine", "int4", "fp8")),
    *(pytest.param("bart", bits, marks=full_effort) for bits in ("int8", "int8-fine", "int4", "fp8")),
]


@pytest.mark.parametrize(("family", "bits"), LOW_BITS)
def test_low_bits_write_what_their_reference_says(family: str, bits: str, tmp_path: Path) -> None:
    checkpoint = getattr(seq2seq, family)(tmp_path / "c")
    limits = {"max_prefix_tokens": 16, "max_item_tokens": 8}
    report = export(checkpoint, tmp_path / "b", kind="seq2seq", quantize=bits, **limits)
    low = open_bundle(report.path)
    (sampled,) = write(low, ["red shoes"], Sampling(max_tokens=5, logprobs=True))
    given = Source(checkpoint)
    fed = torch.tensor([[given.model.config.decoder_start_token_id, *sampled.token_ids]])
    logits = given.model(**given.tokenizer("red shoes", return_tensors="pt"), decoder_input_ids=fed).logits
    exact = logits[0, :-1].log_softmax(-1).gather(1, fed[0, 1:, None])[:, 0].detach().numpy()
    assert sampled.logprobs is not None
    off = np.abs(np.asarray(sampled.logprobs) - exact).max()
    assert 1e-4 < off < {"int8": 0.3, "int8-fine": 0.2, "fp8": 1.5, "int4": 3.0}[bits]


def test_the_text_that_is_read_ends_as_the_tokenizer_ends_it(seq2seq_bundle: Bundle, source: Source) -> None:
    with Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as generator:
        by_text = generator.generate("red shoes", Sampling(max_tokens=6, logprobs=True))
        by_ids = generator.generate(
            source.tokenizer("red shoes").input_ids, Sampling(max_tokens=6, logprobs=True)
        )
    assert by_text.token_ids == by_ids.token_ids
    assert by_text.logprobs is not None
    fed = torch.tensor([[430, *by_text.token_ids]])
    logits = source.model(**source.tokenizer("red shoes", return_tensors="pt"), decoder_input_ids=fed).logits
    expected = logits[0, :-1].log_softmax(-1).gather(1, fed[0, 1:, None])[:, 0]
    np.testing.assert_allclose(by_text.logprobs, expected.detach().numpy(), atol=1e-4)


def test_a_folder_is_claimed_unless_it_scores(seq2seq_checkpoint: Path, tmp_path: Path) -> None:
    assert claimed_kind(seq2seq_checkpoint).name == "seq2seq"
    scorer = shutil.copytree(seq2seq_checkpoint, tmp_path / "monot5-tiny")
    assert claimed_kind(scorer).name == "cross-encoder"


def test_other_classes_targets_and_frames_are_refused(
    seq2seq_checkpoint: Path, prompt_file: Path, tmp_path: Path
) -> None:
    decoder = checkpoints.causal_lm(tmp_path / "c", "qwen2")
    with pytest.raises(CheckpointError, match="Qwen2ForCausalLM is not exported as an encoder-decoder"):
        export(decoder, tmp_path / "b", kind="seq2seq")
    with pytest.raises(InvalidRequest, match="--target tensorrt: kind seq2seq is made for onnx-cpu"):
        Seq2SeqOptions(target="tensorrt")
    prompt = tmp_path / "p.toml"
    prompt.write_text('[[prefix]]\nfield = "query"\n[[item]]\nitem = true\n[[item]]\ntext = "."\n')
    with pytest.raises(InvalidRequest, match="item is what an encoder-decoder writes"):
        export(seq2seq_checkpoint, tmp_path / "b", kind="seq2seq", prompt=prompt)
