"""Experts of quantized checkpoints equal transformers' model of the weights that their codes stand for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.quantization.experts import low_bits_of
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.effort import every_run
from support.experts import Alone
from support.forms.gptq_checkpoints import Gptq, dequantized, quantized
from support.forms.quantized_checkpoints import quiet, read_tensors, rewrite_quantization, rewrite_tensors

IDS = torch.arange(3, 35)[None]
SIZES: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 96, "head_dim": 16},
    "mixtral": {"num_local_experts": 4, "intermediate_size": 96},  # stored by other names than its class has
    "lfm2_moe": {
        "num_experts": 4,
        "moe_intermediate_size": 96,
        "num_dense_layers": 0,
        "layer_types": ["full_attention"],
    },
}
UNGATED = {
    "nemotron_h": {
        "layers_block_type": ["attention", "moe"],
        "num_hidden_layers": 2,
        "head_dim": 16,
        "n_routed_experts": 4,
        "moe_intermediate_size": 96,
        "moe_shared_expert_intermediate_size": 96,
        "n_group": 1,
        "topk_group": 1,
    }
}
FORMS = {
    "4 bits": Gptq(),
    "with zero points": Gptq(sym=False, checkpoint_format="gptq_v2"),
    "8 bits a row": Gptq(bits=8, group_size=-1),
    "a scale a row": Gptq(group_size=-1),
}


def is_expert(name: str) -> bool:
    return ".experts." in name


def is_linear(name: str) -> bool:
    return name.endswith("_proj.weight") and not is_expert(name)


def mixture(
    folder: Path, how: Gptq, family: str = "qwen3_moe", which: Callable[[str], bool] = is_expert
) -> tuple[Path, Path]:
    """Writes a mixture of which some matrices are quantized, and one of what their codes stand for."""
    options = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_experts_per_tok": 2,
        **(SIZES | UNGATED)[family],
    }
    whole = checkpoints.causal_lm(folder / "whole", family, **options)
    tensors = read_tensors(whole)
    assert any(map(which, tensors))
    stored: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not which(name):
            stored[name] = meant[name] = tensor.contiguous()
            continue
        layer = name.removesuffix(".weight")
        parts = {f"{layer}.{part}": value.contiguous() for part, value in quantized(tensor, how).items()}
        stored |= parts
        meant[name] = dequantized(parts, layer, how.bits, how.checkpoint_format)
    return written(folder / "low", stored, {"quant_method": "gptq", **vars(how)}), rewritten(whole, meant)


def written(low: Path, stored: dict[str, Tensor], stated: dict[str, Any]) -> Path:
    """Writes the quantized one of a pair, beside the folder `whole`."""
    low.mkdir()
    config = json.loads((low.with_name("whole") / "config.json").read_text())
    (low / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))
    save_file(stored, low / "model.safetensors")
    return low


def rewritten(whole: Path, meant: dict[str, Tensor]) -> Path:
    """Gives the other one what the codes stand for."""
    save_file(meant, whole / "model.safetensors", metadata={"format": "pt"})
    return whole


def of_one_layer(folder: Path) -> Path:
    """Writes a mixture in full precision."""
    options = {"hidden_size": 64, "num_hidden_layers": 1, "num_experts_per_tok": 2, **SIZES["qwen3_moe"]}
    return checkpoints.causal_lm(folder / "whole", "qwen3_moe", **options)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    answer: Tensor = model(input_ids=IDS).logits
    return answer


def reference(folder: Path) -> Tensor:
    with quiet():
        return logits(AutoModelForCausalLM.from_pretrained(folder).eval())


@pytest.mark.parametrize("family", SIZES)
def test_every_family_equals_what_its_codes_stand_for(family: str, tmp_path: Path) -> None:
    low, whole = mixture(tmp_path, Gptq(), family)
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), reference(whole), rtol=0, atol=1e-5)
    assert low_bits_of(Alone(loaded.model).experts) is not None


@pytest.mark.parametrize("form", every_run(FORMS, ("with zero points", "8 bits a row")))
def test_an_export_has_the_codes_and_equals_it(form: str, tmp_path: Path) -> None:
    low, whole = mixture(tmp_path, FORMS[form])
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), reference(whole), rtol=0, atol=1e-5)
    facts = loaded.quantization
    assert facts is not None
    scheme = next(scheme for scheme in facts.schemes if scheme.part == "experts")
    assert (scheme.layers, scheme.bits, scheme.symmetric) == (1, FORMS[form].bits, FORMS[form].sym)
    bundle = export(
        low, tmp_path / "bundle", kind="ranker", label_ids=(9, 17), max_prefix_tokens=16, max_item_tokens=8
    )
    graph = onnx.load(tmp_path / "bundle" / bundle.manifest.graphs[0].file, load_external_data=False)
    assert [node.op_type for node in graph.graph.node if "MoE" in node.op_type] == ["QMoE"]
    parity = bundle.manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
    verify(tmp_path / "bundle", low)


@pytest.mark.parametrize(
    ("how", "family"),
    [(Gptq(desc_act=True), "qwen3_moe"), (Gptq(bits=8), "qwen3_moe"), (Gptq(), "nemotron_h")],
    ids=["order", "8 bits in groups", "no gate"],
)
def test_codes_that_no_operator_takes_are_read_as_what_they_stand_for(
    how: Gptq, family: str, tmp_path: Path
) -> None:
    low, whole = mixture(tmp_path, how, family)
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), reference(whole), rtol=0, atol=1e-5)
    assert low_bits_of(Alone(loaded.model).experts) is None
    assert any("experts of 1 layer are read as the full precision" in note for note in loaded.notes)


def test_experts_of_which_one_matrix_is_in_low_bits_are_read_in_full(tmp_path: Path) -> None:
    low, whole = mixture(tmp_path, Gptq(), which=lambda name: is_expert(name) and "down_proj" in name)
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), reference(whole), rtol=0, atol=1e-5)
    assert low_bits_of(Alone(loaded.model).experts) is None
    assert any("experts of 1 layer are read as the full precision" in note for note in loaded.notes)


@pytest.mark.parametrize("family", SIZES)
def test_experts_in_full_precision_beside_layers_in_low_bits(family: str, tmp_path: Path) -> None:
    low, whole = mixture(tmp_path, Gptq(), family, is_linear)
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), reference(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        (r"model\.layers\.0\.mlp\.experts\.2\.up_proj", "'model.layers.0.mlp.experts.2.up_proj'"),
        (r".*\.gate_proj", "beside 'model.layers.0.mlp.experts.0.up_proj' that lies in one stack with it"),
    ],
    ids=["one", "all of a kind"],
)
def test_an_expert_that_is_missing_is_named(lacking: str, told: str, tmp_path: Path) -> None:
    low, _ = mixture(tmp_path, Gptq())

    def drop(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if re.match(lacking, name)]:
            del tensors[name]

    rewrite_tensors(low, drop)
    with pytest.raises(CheckpointError, match=re.escape(f"lacks quantized layer {told}: copy it again")):
        load_checkpoint(low)


def test_experts_of_other_targets_compute_what_the_codes_stand_for(tmp_path: Path) -> None:
    low, _ = mixture(tmp_path, Gptq())
    bundle = export(
        low,
        tmp_path / "bundle",
        kind="ranker",
        label_ids=(9, 17),
        max_prefix_tokens=16,
        max_item_tokens=8,
        target="onnx-cuda",
    )
    parity = bundle.manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


def apart(whole: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Reads the weights of experts, and all others."""
    tensors = {name: tensor.contiguous() for name, tensor in read_tensors(whole).items()}
    experts = {name: tensor for name, tensor in tensors.items() if is_expert(name)}
    return experts, {name: tensor for name, tensor in tensors.items() if name not in experts}


def packed(folder: Path) -> tuple[Path, Path]:
    """Writes a mixture whose experts compressed-tensors' own functions packed, and one of what they stand for."""
    whole = of_one_layer(folder)
    experts, stored = apart(whole)
    meant = dict(stored)
    for name, tensor in experts.items():
        layer, grouped = name.removesuffix(".weight"), tensor.unflatten(1, (-1, 32))
        scales = grouped.abs().amax(-1) / 7
        codes = (grouped / scales[..., None]).round().clamp(-8, 7).flatten(1)
        stored |= {
            f"{layer}.weight_packed": pack_to_int32(codes.to(torch.int8), 4),
            f"{layer}.weight_scale": scales,
            f"{layer}.weight_shape": torch.tensor(tensor.shape),
        }
        meant[name] = (codes.unflatten(1, (-1, 32)) * scales[..., None]).flatten(1).contiguous()
    scheme = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
    stated = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme}},
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*mlp.gate$"],
    }
    return written(folder / "low", stored, stated), rewritten(whole, meant)


def test_experts_of_compressed_tensors_equal_what_their_codes_stand_for(tmp_path: Path) -> None:
    low, whole = packed(tmp_path)
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), reference(whole), rtol=0, atol=1e-5)
    low_bits = low_bits_of(Alone(loaded.model).experts)
    assert low_bits is not None
    assert low_bits.group == 32


def in_fp8(folder: Path, scheme: str = "dynamic") -> tuple[Path, Path]:
    """Writes a mixture whose experts are as Qwen publishes them in FP8, blocks of 32 x 32, and what they stand for."""
    whole = of_one_layer(folder)
    experts, stored = apart(whole)
    meant = dict(stored)
    for name, tensor in experts.items():
        blocks = tensor.unflatten(0, (-1, 32)).unflatten(2, (-1, 32))
        scales = blocks.abs().amax((1, 3)) / 448
        codes = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
        stored |= {name: codes.reshape(tensor.shape), f"{name}_scale_inv": scales}
        if scheme == "static":
            stored[f"{name.removesuffix('.weight')}.activation_scale"] = torch.tensor(0.5)
        meant[name] = (codes.float() * scales[:, None, :, None]).reshape(tensor.shape)
    stated = {
        "quant_method": "fp8",
        "activation_scheme": scheme,
        "weight_block_size": [32, 32],
        "modules_to_not_convert": ["lm_head"],
    }
    return written(folder / "low", stored, stated), rewritten(whole, meant)


def in_blocks(x: Tensor) -> Tensor:
    """Rounds to fp8 by a scale of each token and 32 channels."""
    blocks = x.unflatten(-1, (-1, 32))
    scales = blocks.abs().amax(-1, keepdim=True) / 448
    return ((blocks / scales).to(torch.float8_e4m3fn).float() * scales).flatten(-2)


def rounding_reference(folder: Path) -> Tensor:
    """Computes the logits of transformers' model whose experts read rounded inputs, a token after another."""
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
    experts = Alone(model).experts

    def forward(states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        rows = []
        for state, of_token, shares in zip(states, chosen, weights, strict=True):
            row = torch.zeros_like(state)
            for expert, share in zip(of_token.tolist(), shares, strict=True):
                gate, up = (experts.gate_up_proj[expert] @ in_blocks(state)).chunk(2)  # type: ignore[index, operator]
                inner = torch.nn.functional.silu(gate) * up
                row += share * (experts.down_proj[expert] @ in_blocks(inner))  # type: ignore[index, operator]
            rows.append(row)
        return torch.stack(rows)

    experts.forward = forward  # type: ignore[method-assign, assignment]
    return logits(model)


@pytest.mark.parametrize("target", ["onnx-cpu", "onnx-cuda"])
def test_inputs_of_experts_are_rounded_as_stated(target: str, tmp_path: Path) -> None:
    low, whole = in_fp8(tmp_path)
    loaded = load_checkpoint(low)
    torch.testing.assert_close(logits(loaded.model), rounding_reference(whole), rtol=0, atol=1e-5)
    assert (logits(loaded.model) - reference(whole)).abs().max() > 1e-3  # the rounding tells
    bundle = export(
        low,
        tmp_path / "bundle",
        kind="ranker",
        label_ids=(9, 17),
        max_prefix_tokens=16,
        max_item_tokens=8,
        target=target,
    )
    parity, quantization = bundle.manifest.parity, bundle.manifest.quantization
    assert parity is not None
    assert quantization is not None
    assert max(mode.relative_error or 0.0 for mode in parity.modes) <= 1e-3  # a tie may be rounded either way
    (part,) = quantization.parts
    assert (part.part, part.layers, part.bits, part.type) == ("experts", 1, 8, "float")
    assert (part.group_size, part.activations) == (32, "fp8 per 32 channels")
    verify(tmp_path / "bundle", low)


def test_experts_in_int8_round_inputs_by_token(tmp_path: Path) -> None:
    low, whole = packed(tmp_path)
    inputs = {"num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True}
    rewrite_quantization(
        low, lambda fields: fields["config_groups"]["group_0"].update(input_activations=inputs)
    )
    off = (logits(load_checkpoint(low).model) - reference(whole)).abs().max()
    assert 1e-4 < off < 0.1 * reference(whole).abs().max()


def test_fixed_scales_of_experts_inputs_are_refused_by_name(tmp_path: Path) -> None:
    low, _ = in_fp8(tmp_path, "static")
    with pytest.raises(
        CheckpointError, match=r"an expert's, in low bits with its inputs rounded by its own rule"
    ):
        load_checkpoint(low)


def test_rounded_inputs_of_experts_are_not_for_tensorrt(tmp_path: Path) -> None:
    low, _ = in_fp8(tmp_path)
    with pytest.raises(CheckpointError, match=r"inputs of experts are rounded \(fp8 per 32 channels\)"):
        export(low, tmp_path / "bundle", kind="ranker", label_ids=(9, 17), target="tensorrt")
