"""Decoders whose layers are not all of attention write, greedily, what transformers writes."""

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
from support.effort import full_effort
from support.gpu.cuda_kernels import without_kernel
from support.gpu.host_device import HostMemory, host_writer
from support.gpu.host_values import copied_to_device
from support.hybrids import FAMILIES, hybrid

TOKENS, PROMPT = 200, [1, 40, 41, 42, 43, 9, 17]
PENALTIES = (1.0, 1.3)  # one keeps a random model from going round in a circle of tokens


def written_by_transformers(checkpoint: Path, penalty: float, *, use_cache: bool = True) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([PROMPT])
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": TOKENS, "use_cache": use_cache}
    settings["repetition_penalty"] = penalty
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return tuple(out[0, len(PROMPT) :].tolist())


def test_greedy_texts_of_200_tokens_are_those_of_transformers(
    hybrid_checkpoint: Path, hybrid_bundle: Bundle
) -> None:
    penalty = PENALTIES[-1]
    check_greedy_texts(hybrid_bundle, {penalty: written_by_transformers(hybrid_checkpoint, penalty)})


def test_a_step_on_cuda_is_an_operator_for_each_way_of_mixing_and_goes_on_from_its_states(
    hybrid_on_cuda: Bundle,
) -> None:
    (file,) = {graph.file for graph in hybrid_on_cuda.manifest.graphs}  # one copy of the weights
    graph = ir.load(hybrid_on_cuda.file(file)).graph
    assert not without_kernel(graph)
    assert not copied_to_device(graph)
    assert not [node for node in graph if node.op_type == "If"]
    (attention,) = (node for node in graph if node.op_type == "LinearAttention")
    assert attention.inputs[3] is not None
    assert [node.op_type for node in graph].count("CausalConvWithState") == 1
    # The state of a text that takes no part, and of a whole row, is the operator's own: nothing is added to it.
    (state,) = (value for value in graph.outputs if str(value.name).startswith("new_recurrent_state"))
    assert state is attention.outputs[1]
    parity = hybrid_on_cuda.manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


@full_effort
@pytest.mark.parametrize("family", [*FAMILIES, "lfm2, nothing in place"])
def test_every_family_writes_what_transformers_writes(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, beside = family.partition(", ")
    overrides = {"num_attention_heads": 8, "num_key_value_heads": 4} if beside else {}  # heads of 4
    checkpoint = hybrid(tmp_path / "checkpoint", name, max_position_embeddings=256, **overrides)
    # With a cache of its own, Nemotron-H is 1e-3 off its own whole forward, enough for another token.
    cached = family != "nemotron-h"
    expected = {
        penalty: written_by_transformers(checkpoint, penalty, use_cache=cached) for penalty in PENALTIES
    }
    unused = set(range(100)).difference(*expected.values())
    limits = {"max_prefix_tokens": 32, "max_item_tokens": TOKENS, "target": "onnx-cpu,onnx-cuda"}
    bundle = export(checkpoint, tmp_path / "b", kind="generator", stop_ids=(min(unused),), **limits)
    assert ("in_place" in {value.name for value in bundle.graph("decode").inputs}) == (not beside)
    check_greedy_texts(bundle, expected)
    for_cuda = bundle.for_target("onnx-cuda")
    assert not without_kernel(ir.load(for_cuda.file(for_cuda.graph("decode").file)).graph)
    device = host_writer(for_cuda, HostMemory())
    monkeypatch.setattr(local, "load_decode_backend", lambda *_, **__: device)
    check_greedy_texts(for_cuda, expected)


def check_greedy_texts(bundle: Bundle, expected: dict[float, tuple[int, ...]]) -> None:
    assert {len(text) for text in expected.values()} == {TOKENS}
    assert bundle.manifest.parity is not None
    assert len(bundle.manifest.parity.modes) == 10
    assert max(mode.max_abs_error for mode in bundle.manifest.parity.modes) <= 1e-4
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        orders = {
            penalty: Sampling(max_tokens=TOKENS, temperature=0.0, repetition_penalty=penalty)
            for penalty in expected
        }
        futures = {penalty: generator.submit_generate(PROMPT, order) for penalty, order in orders.items()}
        assert {penalty: future.result(120).token_ids for penalty, future in futures.items()} == expected


@full_effort
@pytest.mark.parametrize("family", ["qwen3.5", "granite4"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_for_cuda_is_as_close_as_transformers_and_carries_states_in_fp32(
    precision: str, family: str, tmp_path: Path
) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", family)
    options = {"target": "onnx-cuda", "precision": precision, "max_prefix_tokens": 40, "max_item_tokens": 16}
    manifest = export(checkpoint, tmp_path / "b", kind="generator", stop_ids=(2,), **options).manifest
    parity = manifest.parity
    assert parity is not None
    assert parity.noise is not None
    noise = parity.noise.relative_error
    assert noise is not None
    assert all(1e-5 < (mode.relative_error or 0.0) <= 2 * noise for mode in parity.modes)
    (decode,) = (graph for graph in manifest.graphs if graph.role == "decode")
    types = {tensor.name.partition(".")[0]: tensor.dtype for tensor in decode.outputs}
    half = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert (types["new_key"], types["new_conv_state"]) == (half, half)
    assert (types["logits"], types["new_recurrent_state"]) == ("float32", "float32")


@full_effort
def test_low_bits_go_with_it_for_cuda(tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "checkpoint", "lfm2")
    options = {"target": "onnx-cuda", "quantize": "int8", "max_prefix_tokens": 40, "max_item_tokens": 16}
    manifest = export(checkpoint, tmp_path / "b", kind="generator", stop_ids=(2,), **options).manifest
    assert manifest.parity is not None
    assert len({graph.file for graph in manifest.graphs}) == 1
