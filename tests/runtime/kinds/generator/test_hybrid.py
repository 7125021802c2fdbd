"""Texts of a decoder with recurrent layers: each goes on from its own states, whatever is written beside it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie

INSTRUCTION = [1, *range(30, 50)]
PROMPTS = [
    [1, 40],
    [5],
    [*INSTRUCTION, 7, 8, 9],
    [*INSTRUCTION, 60],
    [*INSTRUCTION, 7, 8, 9, 61, 62],
    [*INSTRUCTION, 70, 71],
    [1, 41, 42],
]
DRAWN = Sampling(max_tokens=12, temperature=1.0, seed=11)


@pytest.fixture(scope="module")
def alone(hybrid_bundle: Bundle) -> list[tuple[int, ...]]:
    """Texts behind each prompt, each written by a generator that has done nothing before."""
    texts = []
    for prompt in PROMPTS:
        with Generator.load(hybrid_bundle, config=EngineConfig(threads=1)) as generator:
            texts.append(generator.generate(prompt, DRAWN).token_ids)
    assert len({*texts}) == len(texts)
    return texts


@pytest.mark.parametrize("instances", [1, 2])
def test_texts_are_the_same_beside_others_that_come_and_go(
    instances: int, hybrid_bundle: Bundle, alone: list[tuple[int, ...]]
) -> None:
    config = EngineConfig(threads=instances, instances=instances, max_prefill_tokens=8)
    with Generator.load(hybrid_bundle, config=config) as generator:
        futures = [generator.submit_generate(prompt, DRAWN) for prompt in PROMPTS]
        # Texts of other lengths leave rows between them, and one is called off while it is written.
        others = [generator.submit_generate([1, 50 + size], Sampling(max_tokens=size)) for size in (1, 3, 40)]
        futures += [generator.submit_generate(prompt, DRAWN) for prompt in PROMPTS]
        assert [future.result(60).token_ids for future in futures[:3]] == alone[:3]
        others[-1].cancel()
        assert [future.result(60).token_ids for future in futures] == alone * 2


def test_a_prompt_that_begins_as_another_goes_on_from_what_is_kept(
    hybrid_bundle: Bundle, alone: list[tuple[int, ...]]
) -> None:
    cached = []
    with Generator.load(hybrid_bundle, config=EngineConfig(threads=1)) as generator:
        for prompt, text in zip(PROMPTS, alone, strict=True):
            result = generator.generate(prompt, DRAWN)
            assert result.token_ids == text
            cached.append(result.usage.prompt_tokens_cached)
    # States cannot be split: a prompt, its last token left out, is used whole, and what two begin with by a third.
    assert cached == [0, 0, 1, 1, 23, 21, 1]


def log_probability(model: torch.nn.Module, text: Sequence[int]) -> float:
    """That of a text behind the instruction."""
    with torch.no_grad():
        rows = model(torch.tensor([[*INSTRUCTION, *text]])).logits[0].double().log_softmax(1)
    first = len(INSTRUCTION) - 1
    return float(rows[range(first, first + len(text)), text].sum())


def test_given_texts_are_scored_and_found_as_the_source_has_them(
    hybrid_bundle: Bundle, hybrid_checkpoint: Path
) -> None:
    items, end = [[9, 9, 9, 7], [5], [5, 6]], 89
    with Generator.load(hybrid_bundle, config=EngineConfig(threads=1)) as generator:
        scores = generator.score(INSTRUCTION, items).scores
        trie = TokenTrie.of(["a", "b", "c"], np.array([[9, 9, 9], [9, 8, 7], [5, 6, 7]]), 101)
        found = generator.search(INSTRUCTION, trie)
    model = AutoModelForCausalLM.from_pretrained(hybrid_checkpoint).eval()
    expected = [log_probability(model, [*item, end]) for item in items]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    for key, score in zip(found.keys, found.scores, strict=True):
        text = {"a": [9, 9, 9], "b": [9, 8, 7], "c": [5, 6, 7]}[key]
        assert score == pytest.approx(log_probability(model, text), abs=1e-4)
