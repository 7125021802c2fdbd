"""Decoders whose layers are not all of attention write, greedily, what transformers writes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError
from rankport.protos.generation import Sampling
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from support.effort import every_run
from support.hybrids import FAMILIES, hybrid

TOKENS, PROMPT = 200, [1, 40, 41, 42, 43, 9, 17]
PENALTIES = (1.0, 1.3)  # one keeps a random model from going round in a circle of tokens


def written_by_transformers(checkpoint: Path, penalty: float) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([PROMPT])
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": TOKENS, "repetition_penalty": penalty}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return tuple(out[0, len(PROMPT) :].tolist())


@pytest.mark.parametrize("family", every_run(FAMILIES, {"qwen3.5"}))
def test_greedy_texts_of_200_tokens_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", family, max_position_embeddings=256)
    expected = {penalty: written_by_transformers(checkpoint, penalty) for penalty in PENALTIES}
    unused = set(range(100)).difference(*expected.values())
    limits = {"max_prefix_tokens": 32, "max_item_tokens": TOKENS}
    bundle = export(checkpoint, tmp_path / "b", kind="generator", stop_ids=(min(unused),), **limits)
    assert bundle.manifest.parity is not None
    assert max(mode.max_abs_error for mode in bundle.manifest.parity.modes) <= 1e-4
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        orders = {
            penalty: Sampling(max_tokens=TOKENS, temperature=0.0, repetition_penalty=penalty)
            for penalty in PENALTIES
        }
        futures = {penalty: generator.submit_generate(PROMPT, order) for penalty, order in orders.items()}
        assert {penalty: future.result(120).token_ids for penalty, future in futures.items()} == expected


@pytest.mark.parametrize("target", ["onnx-cuda", "onnx-cpu,onnx-cuda"])
def test_a_gpu_is_refused_with_the_layers(target: str, tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", "lfm2")
    with pytest.raises(CheckpointError, match=r"layers \[0\] are recurrent, .* --target onnx-cpu alone"):
        export(checkpoint, tmp_path / "bundle", kind="generator", stop_ids=(2,), target=target)
    assert not (tmp_path / "bundle").exists()
