"""Families of decoders write, greedily, the 200 tokens that transformers writes: on a CPU, and as a GPU would."""

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines import local
from rankport.runtime.kinds.generator.generator import Generator
from support import checkpoints
from support.effort import every_run
from support.gpu.cuda_kernels import without_kernel
from support.gpu.host_device import HostMemory, host_writer

TOKENS, PROMPT = 200, [1, 40, 41, 42, 43, 9, 17]
WINDOW: dict[str, Any] = {"sliding_window": 16}  # which prompt and text exceed
MIXED: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
GEMMA: dict[str, Any] = {"head_dim": 16, "query_pre_attn_scalar": 16, **WINDOW}

# Heads that ONNX Runtime's operator rotates in a step; the other families' are rotated before it, or written beside.
ROTATED: dict[str, Any] = {"head_dim": 16, "rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {**ROTATED, "rope_scaling": LLAMA3, "attention_bias": True}),
    "qwen3, yarn": ("qwen3", {**ROTATED, "rope_scaling": YARN}),  # tables longer than one
    "smollm3, every other layer rotated": ("smollm3", {"head_dim": 16, "no_rope_layers": [1, 0]}),
    "llama, a vocabulary of many parts": ("llama", {"vocab_size": 1024}),
    "llama": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),  # biases on query, key and value
    "qwen3": ("qwen3", {"head_dim": 24}),  # norms of queries and keys, wide heads
    "mistral": ("mistral", WINDOW),
    "gemma2": ("gemma2", GEMMA),  # soft-capping, norms on both sides
    "gemma3": ("gemma3_text", GEMMA | MIXED),
    "gpt-oss": (  # sinks
        "gpt_oss",
        {"num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 16, **MIXED, **WINDOW},
    ),
    "phi3": ("phi3", {}),  # fused projections
    "olmo2": ("olmo2", {}),  # norms behind the blocks
    "granite": ("granite", {"logits_scaling": 3.0, "residual_multiplier": 0.5}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}),  # a layer without rotary
    "cohere": ("cohere", {}),  # interleaved rotary, parallel blocks
    "gpt_neox": ("gpt_neox", {}),  # one projection of queries, keys and values, partial rotary, layer norms
}


def written_by_transformers(checkpoint: Path, penalty: float) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([PROMPT])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=TOKENS,
        repetition_penalty=penalty,
    )
    return tuple(out[0, len(PROMPT) :].tolist())


@pytest.mark.parametrize("family", every_run(FAMILIES, {"gemma2", "llama, a vocabulary of many parts"}))
def test_greedy_texts_of_200_tokens_are_those_of_transformers(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_type, overrides = FAMILIES[family]
    checkpoint = checkpoints.causal_lm(tmp_path / "c", model_type, max_position_embeddings=256, **overrides)
    # A penalty of repetition keeps a random model from going round in a circle of tokens.
    expected = {penalty: written_by_transformers(checkpoint, penalty) for penalty in (1.0, 1.3)}
    unused = set(range(checkpoints.VOCABULARY)).difference(*expected.values())
    options: dict[str, Any] = {
        "target": "onnx-cpu,onnx-cuda",
        "stop_ids": (min(unused),),
        "max_prefix_tokens": 32,
        "max_item_tokens": TOKENS,
    }
    bundle = export(checkpoint, tmp_path / "b", kind="generator", **options)
    assert {len(text) for text in expected.values()} == {TOKENS}
    assert written_by(bundle) == expected
    for_cuda = bundle.for_target("onnx-cuda")
    assert not without_kernel(ir.load(for_cuda.file(for_cuda.graph("decode").file)).graph)
    device = host_writer(for_cuda, HostMemory())
    monkeypatch.setattr(local, "load_decode_backend", lambda *_, **__: device)
    assert written_by(bundle) == expected


def written_by(bundle: Bundle) -> dict[float, tuple[int, ...]]:
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        orders = {
            penalty: Sampling(max_tokens=TOKENS, temperature=0.0, repetition_penalty=penalty)
            for penalty in (1.0, 1.3)
        }
        return {penalty: generator.generate(PROMPT, order).token_ids for penalty, order in orders.items()}
