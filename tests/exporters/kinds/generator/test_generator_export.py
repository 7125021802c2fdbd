"""Generators are exported, proven in every mode, and write what transformers writes, token by token."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.exporters.kinds.generator.options import GeneratorOptions
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from support import checkpoints
from support.effort import FACTOR

PROMPT = [1, 40, 41, 42, 43]
FULL = pytest.mark.skipif(FACTOR == 1, reason="an export more: make test-full")


def written_by_transformers(checkpoint: Path, prompt: list[int], **settings: Any) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    out = model.generate(ids, attention_mask=mask, do_sample=False, **settings)
    return tuple(out[0, len(prompt) :].tolist())


def test_every_mode_holds_and_the_source_is_exact(generator_bundle: Bundle) -> None:
    parity = generator_bundle.manifest.parity
    assert parity is not None
    modes = ["alone", "together", "prompt_in_parts", "staggered", "scored"]
    assert [mode.mode for mode in parity.modes] == [*modes, *(f"{mode}/to_the_end" for mode in modes)]
    assert max(mode.max_abs_error for mode in parity.modes) < 1e-4
    assert generator_bundle.manifest.generation is not None
    assert generator_bundle.manifest.generation.stop_ids == [2]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"repetition_penalty": 1.4}, {"repetition_penalty": 1.4}),
        (
            {"min_new_tokens": 9, "sequence_bias": [[[2], 100.0]]},  # which is the end
            {"min_tokens": 9, "logit_bias": {2: 100.0}},
        ),
        (
            {"repetition_penalty": 1.4, "sequence_bias": [[[40], 3.5], [[9], -7.0]]},
            {"repetition_penalty": 1.4, "logit_bias": {40: 3.5, 9: -7.0}},
        ),
    ],
)
def test_greedy_texts_are_those_of_transformers(
    generator_bundle: Bundle, generator_checkpoint: Path, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    expected = written_by_transformers(generator_checkpoint, PROMPT, max_new_tokens=60, **theirs)
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as generator:
        result = generator.generate(PROMPT, Sampling(max_tokens=60, **ours))
    stopped = result.finish_reason == "stop"
    assert (*result.token_ids, *((2,) if stopped else ())) == expected
    assert len(expected) == (10 if "min_tokens" in ours else 60) or stopped


def test_a_bundle_is_verified(generator_bundle: Bundle, generator_checkpoint: Path) -> None:
    assert not verify(generator_bundle.path, generator_checkpoint).failures


@pytest.mark.parametrize("recipe", [pytest.param("int8", marks=FULL), "int4"])
def test_low_bits_are_those_of_the_whole_head_too(
    generator_checkpoint: Path, tmp_path: Path, recipe: str
) -> None:
    options: dict[str, Any] = {"max_prefix_tokens": 16, "max_item_tokens": 16, "quantize": recipe}
    bundle = export(generator_checkpoint, tmp_path / "b", kind="generator", **options)
    low_bits = bundle.manifest.quantization
    assert low_bits is not None
    assert low_bits.kept == []
    source = AutoModelForCausalLM.from_pretrained(generator_checkpoint)
    matrices = [module for module in source.modules() if isinstance(module, torch.nn.Linear)]
    linear = [part for part in low_bits.parts if part.part == "linear"]
    assert sum(part.layers for part in linear) == len(matrices)
    assert sum(part.weights for part in linear) == sum(matrix.weight.numel() for matrix in matrices)
    assert {part.bits for part in linear if part.layers == 1} == {8}  # the head
    assert not verify(bundle.path, generator_checkpoint).failures


def test_what_the_folder_says_of_writing_is_the_default(ranker_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(ranker_checkpoint, tmp_path / "c")
    ends = [2, 7, *range(60, 101)]  # which texts of the proof would have among their first tokens
    stated = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "eos_token_id": ends, "num_beams": 1}
    stated |= {"min_new_tokens": 6}
    (checkpoint / "generation_config.json").write_text(json.dumps(stated))
    bundle = export(checkpoint, tmp_path / "b", kind="generator", max_prefix_tokens=8, max_item_tokens=8)
    generation = bundle.manifest.generation
    assert generation is not None
    assert (generation.stop_ids, generation.min_tokens) == (ends, 6)
    assert bundle.manifest.score is None
    assert (generation.temperature, generation.top_p, generation.top_k) == (0.5, 0.9, 50)
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        written = [generator.generate([1, 40], Sampling(seed=seed)) for seed in range(4)]
        whole = [likely(generator, [1, 40], [5, 6, end]) for end in ends]
        result = generator.score([1, 40], [[9, 9, 9], [5, 6]])
    assert {len(text.token_ids) for text in written} <= {6, 7, 8}
    assert result.scores[1] == pytest.approx(np.logaddexp.reduce(whole), abs=1e-4)
    assert result.read_out == "log-probability of the item as the whole text behind the prefix"


def likely(generator: Generator, prompt: list[int], text: list[int]) -> float:
    trie = TokenTrie.of(["it"], np.array([text]), 101)
    return float(generator.search(prompt, trie).scores[0])


@pytest.mark.parametrize(
    ("field", "value"), [("num_beams", 4), ("no_repeat_ngram_size", 3), ("typical_p", 0.9)]
)
def test_another_way_of_writing_is_refused_by_name(
    ranker_checkpoint: Path, tmp_path: Path, field: str, value: object
) -> None:
    checkpoint = shutil.copytree(ranker_checkpoint, tmp_path / "c")
    (checkpoint / "generation_config.json").write_text(json.dumps({field: value, "do_sample": True}))
    with pytest.raises(
        CheckpointError, match=f"generation_config.json: {field} is {value}, a way of writing"
    ):
        export(checkpoint, tmp_path / "b", kind="generator")
    assert not (tmp_path / "b").exists()


def test_an_encoder_writes_nothing(tmp_path: Path) -> None:
    checkpoint = checkpoints.body(tmp_path / "c", "bert", tokenizer=True)
    with pytest.raises(CheckpointError, match="BertModel writes no text from left to right"):
        export(checkpoint, tmp_path / "b", kind="generator")


def test_nothing_stands_behind_what_is_written(
    ranker_checkpoint: Path, prompt_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="item is what a generator writes, and nothing stands around it"):
        export(ranker_checkpoint, tmp_path / "b", kind="generator", prompt=prompt_file)


@pytest.mark.parametrize("target", ["tensorrt", "onnx-cuda,tensorrt-rtx:sm89"])
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(
        InvalidRequest, match="a generator is made for onnx-cpu and onnx-cuda: give one of them"
    ):
        GeneratorOptions(target=target)
