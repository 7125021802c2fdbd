"""Small random GPTQ checkpoints, written by the published layout, and dequantized by the published formula.

Rounds to nearest: the layout is what matters here. That it is the layout, checkpoints of optimum's own witness (see
`gptq_optimum`). Shares no code with the loader.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from support import checkpoints
from support.forms.quantized_checkpoints import quiet, read_tensors

OPTIMUM = Path(__file__).parent / "gptq_optimum"
SHAPE: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}


@dataclass(frozen=True)
class Gptq:
    """How a checkpoint is quantized."""

    bits: int = 4
    group_size: int = 32
    sym: bool = True
    desc_act: bool = False
    checkpoint_format: str = "gptq"
    lm_head: bool = False


def gptq(folder: Path, how: Gptq, *, model_type: str = "llama", **overrides: Any) -> Path:
    """A decoder in GPTQ form."""
    dense = checkpoints.causal_lm(
        folder.with_name(f"{folder.name}-dense"), model_type, **{**SHAPE, **overrides}
    )
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(dense)
    tensors = {name: tensor.contiguous() for name, tensor in read_tensors(dense).items()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and (name != "lm_head" or how.lm_head):
            weight = tensors.pop(f"{name}.weight")
            tensors |= {f"{name}.{part}": tensor for part, tensor in quantized(weight, how).items()}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((dense / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", **vars(how)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def quantized(weight: Tensor, how: Gptq) -> dict[str, Tensor]:
    """qweight, qzeros, scales and g_idx of a weight [out, in]."""
    out, columns = weight.shape
    size = columns if how.group_size == -1 else how.group_size
    order = torch.randperm(columns) if how.desc_act else torch.arange(columns)
    groups_of = torch.empty(columns, dtype=torch.int32)
    groups_of[order] = (torch.arange(columns) // size).to(torch.int32)
    grouped = weight[:, order].reshape(out, -1, size)
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    largest = 2**how.bits - 1
    if how.sym:
        scales = (torch.maximum(-low, high) * 2 / largest).half()
        zeros = torch.full((out, columns // size), 2 ** (how.bits - 1), dtype=torch.int64)
    else:
        scales = ((high - low) / largest).half()
        zeros = (-low / scales.float()).round().clamp(0, largest).to(torch.int64)
    scale, zero = scales.float()[:, groups_of.long()], zeros[:, groups_of.long()]
    codes = ((weight / scale).round() + zero).clamp(0, largest).to(torch.int64)
    packed_zeros = packed_rows(zeros, how.bits).T
    if how.checkpoint_format == "gptq":
        packed_zeros = less_one(zeros, how.bits)
    return {
        "qweight": packed_rows(codes.T, how.bits),
        "qzeros": packed_zeros.contiguous(),
        "scales": scales.T.contiguous(),
        "g_idx": groups_of,
    }


def packed_rows(codes: Tensor, bits: int) -> Tensor:
    """Unsigned codes [n, m] -> int32 [n * bits / 32, m], the first row in the lowest bits: bit after bit of all."""
    single = (codes.to(torch.int64)[:, None] >> torch.arange(bits)[None, :, None]) & 1
    words = (single.flatten(0, 1).unflatten(0, (-1, 32)) << torch.arange(32)[None, :, None]).sum(1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def unpacked_rows(words: Tensor, bits: int) -> Tensor:
    """The reverse, int64."""
    single = (words.to(torch.int64)[:, None] >> torch.arange(32)[None, :, None]) & 1
    return (single.flatten(0, 1).unflatten(0, (-1, bits)) << torch.arange(bits)[None, :, None]).sum(1)


def less_one(zeros: Tensor, bits: int) -> Tensor:
    """Zero points [out, groups] -> qzeros less one, as GPT-QModel stores them: code by code where they cross words."""
    if bits == 3:
        return packed_rows((zeros - 1) % 8, bits).T
    # whole words, borrowing between neighbours
    return packed_rows(zeros, bits).T - _ones(bits)


def dequantized(tensors: dict[str, Tensor], layer: str, bits: int, checkpoint_format: str) -> Tensor:
    """W[o, i] = scales[g, o] * (q[i, o] - z[g, o]), g = g_idx[i], in fp32 [out, in]."""
    words = tensors[f"{layer}.qzeros"]
    if checkpoint_format == "gptq" and bits != 3:
        words = words + _ones(bits)
    zeros = unpacked_rows(words.T, bits).T
    if checkpoint_format == "gptq" and bits == 3:
        zeros = (zeros + 1) % 8
    groups = tensors[f"{layer}.g_idx"].long()
    codes = unpacked_rows(tensors[f"{layer}.qweight"], bits)
    return (tensors[f"{layer}.scales"].float()[groups] * (codes - zeros[groups])).T.contiguous()


def formula_model(folder: Path) -> nn.Module:
    """transformers' model with all weights dequantized to fp32."""
    config = json.loads((folder / "config.json").read_text())
    how = config.pop("quantization_config")
    tensors = read_tensors(folder)
    layers = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    dense = {
        f"{layer}.weight": dequantized(tensors, layer, how["bits"], how["checkpoint_format"])
        for layer in layers
    }
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] in ("weight", "bias"):
            dense[name] = tensor
    model: nn.Module = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**config), dtype=torch.float32, attn_implementation="eager"
    )
    model.load_state_dict(dense, strict=not config.get("tie_word_embeddings"))
    return model.eval()


def formula_logits(folder: Path, ids: Tensor) -> Tensor:
    """Computes its logits [batch, tokens, vocabulary]."""
    with torch.no_grad():
        logits: Tensor = formula_model(folder)(input_ids=ids).logits
    return logits


def _ones(bits: int) -> int:
    """1 in every code of a word."""
    return int(sum(1 << shift for shift in range(0, 32, bits)))
