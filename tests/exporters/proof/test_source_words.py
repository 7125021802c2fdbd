"""What a proof says of its source: low bits are never called the fp32 original."""

from types import SimpleNamespace
from typing import Any

import pytest

from rankport.exporters.proof.source_words import compared_with, source_in_words
from rankport.runtime.bundle.manifest import Quantization


def source(adapter: object = None, task: str | None = None) -> Any:
    return SimpleNamespace(architecture="Qwen3ForCausalLM", adapter=adapter, task=task, model=None)


@pytest.mark.parametrize(
    ("by", "opening", "drift"),
    [
        ("export", "its own int8 maths in torch ", True),
        ("checkpoint", "the checkpoint's own int8 maths in torch ", False),
    ],
)
def test_low_bits_are_compared_with_their_own_maths(by: Any, opening: str, drift: bool) -> None:
    quantization = Quantization(by=by, method="m", format="int8", parts=[], kept=[])
    said = source_in_words(source(), quantization)
    assert said.startswith(opening)
    assert ("drift is from the fp32 original" in said) == drift
    assert not said.endswith("fp32")


def test_a_full_precision_source_is_its_class_in_transformers() -> None:
    assert source_in_words(source(), None).startswith("Qwen3ForCausalLM in transformers ")
    merged = source(SimpleNamespace(facts=SimpleNamespace(peft_type="LORA")))
    assert source_in_words(merged, None).startswith(
        "Qwen3ForCausalLM with its LORA adapter merged in transformers"
    )
    of_task = source_in_words(source(task="clustering"), None)
    assert of_task.startswith("Qwen3ForCausalLM with its adapter of clustering in transformers ")


def test_a_window_that_no_sample_crosses_stands_behind_what_a_bundle_is_compared_with() -> None:
    assert compared_with(None, source(), None, None) is None
    assert compared_with("torch", source(), None, None) == "torch"
    said = compared_with("torch", source(), None, 8192)
    assert said == "torch; not beyond the window of 8,192 tokens, which no sample crosses"
    plain = compared_with(None, source(), None, 8192)
    assert plain is not None
    assert plain.startswith("Qwen3ForCausalLM in transformers ")
