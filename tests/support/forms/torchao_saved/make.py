"""Makes the checkpoints beside this file with transformers and torchao: witnesses that no code of ours wrote.

Run by hand: `pip install torchao==0.18.0`, then `python tests/support/forms/torchao_saved/make.py`.
`reference.safetensors` holds the logits that torchao's own tensors give in fp32 for the ids 3..34, and what one layer
makes of inputs whose loudest value is positive: with rounded inputs others fall between two codes. What torchao
quantizes on a GPU alone (float8 with rounded inputs, int4) is made of its tensor classes by hand and flattened by its
own code; of int4, whose product it has on a GPU alone, all is computed of q * scale + zero_point.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchao.core.config import config_to_dict
from torchao.float8.inference import Float8MMConfig
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
from torchao.quantization import (
    Float8Tensor,
    Float8WeightOnlyConfig,
    Int4Tensor,
    Int4WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    PerGroup,
    PerRow,
)
from torchao.quantization.quantize_.workflows import QuantizeTensorToFloat8Kwargs
from transformers import AutoModelForCausalLM, TorchAoConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from support import checkpoints  # noqa: E402

IDS = torch.arange(3, 35)[None]
SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
GROUP = 16
LAYER = "model.layers.0.mlp.down_proj"
VARIANTS = {
    "int8_weight": Int8WeightOnlyConfig(),
    "int8_weight_group": Int8WeightOnlyConfig(granularity=PerGroup(GROUP)),
    "int8_dynamic": Int8DynamicActivationInt8WeightConfig(),
    "float8_weight": Float8WeightOnlyConfig(),
    "int4_asymmetric": IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=PerGroup(GROUP), mapping_type=MappingType.ASYMMETRIC
    ),
}


def saved(name: str, config: Any, dense: Path) -> None:
    """Saves a variant by transformers."""
    model = AutoModelForCausalLM.from_pretrained(
        dense, quantization_config=TorchAoConfig(config), dtype=torch.float32, attn_implementation="eager"
    )
    model.save_pretrained(HERE / name)
    _refer(name, model)


def by_hand(
    name: str, stated: dict[str, Any], made: Callable[[Tensor], tuple[Tensor, Tensor]], dense: Path
) -> None:
    """Saves a variant of which `made` gives the tensor to store, and the one to compute with."""
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager")
    stored = model.state_dict()
    for layer, module in model.named_modules():
        if isinstance(module, nn.Linear) and layer != "lm_head":
            stored[f"{layer}.weight"], weight = made(module.weight.data)
            module.weight = nn.Parameter(weight, requires_grad=False)
    tensors, metadata = flatten_tensor_state_dict(stored)
    (HERE / name).mkdir(exist_ok=True)
    save_file(
        {key: tensor.contiguous() for key, tensor in tensors.items()},
        HERE / name / "model.safetensors",
        {**metadata, "format": "pt"},
    )
    config = json.loads((dense / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "torchao", "quant_type": {"default": stated}}
    (HERE / name / "config.json").write_text(json.dumps(config, indent=2))
    _refer(name, model)


def _refer(name: str, model: nn.Module) -> None:
    inputs = torch.randn(6, SHAPE["intermediate_size"], generator=torch.Generator().manual_seed(4))
    inputs[:, 3] = inputs.abs().amax(1) * 1.1
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
        outputs = model.get_submodule(LAYER)(inputs)
    found = {"logits": logits.contiguous(), "inputs": inputs, "outputs": outputs.contiguous()}
    save_file(found, HERE / name / "reference.safetensors")


def float8_dynamic(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gives e4m3 a row, inputs by token."""
    product = Float8MMConfig(use_fast_accum=True)
    inputs = QuantizeTensorToFloat8Kwargs(torch.float8_e4m3fn, PerRow(), mm_config=product)
    tensor = Float8Tensor.from_hp(weight, granularity=PerRow(), mm_config=product, act_quant_kwargs=inputs)
    return tensor, tensor


def int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gives codes -8..7 two a byte, the first in the low bits; zero points are what the code 0 stands for."""
    groups = weight.unflatten(1, (-1, GROUP))
    low, high = groups.amin(-1), groups.amax(-1)
    scales = (high - low) / 15
    codes = ((groups - low[..., None]) / scales[..., None]).round().clamp(0, 15) - 8
    zeros = low + 8 * scales
    flat = codes.flatten(1).to(torch.int8)
    packed = (flat[:, ::2] & 0xF) | (flat[:, 1::2] << 4)
    tensor = Int4Tensor(packed, scales.T.contiguous(), zeros.T.contiguous(), [1, GROUP], weight.shape)
    return tensor, (codes * scales[..., None] + zeros[..., None]).flatten(1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dense = checkpoints.causal_lm(Path(folder), "llama", **SHAPE)
        for name, config in VARIANTS.items():
            saved(name, config, dense)
        dynamic = {"_type": "Float8DynamicActivationFloat8WeightConfig", "_version": 2, "_data": {}}
        by_hand("float8_dynamic", dynamic, float8_dynamic, dense)
        by_hand("int4_zero_points", config_to_dict(Int4WeightOnlyConfig(group_size=GROUP)), int4, dense)
