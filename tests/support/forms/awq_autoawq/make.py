"""Makes the checkpoint beside this file with AutoAWQ's own layers: a witness of the format that no code of ours wrote.

Run by hand: `pip download --no-deps --no-binary :all: autoawq==0.2.9`, unpack it, then
`python tests/support/forms/awq_autoawq/make.py THAT_FOLDER`. Its package as a whole needs an older transformers, so the
two modules that pack and unpack are read by themselves. `reference.safetensors` holds the logits of the weights that
AutoAWQ dequantizes, in fp32, for the ids 3..34.
"""

import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from support import checkpoints  # noqa: E402

BITS, GROUP = 4, 32
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "tie_word_embeddings": True,
}


def autoawq(source: Path) -> tuple[Any, Any]:
    """Its linear layer, and what dequantizes one."""
    for name in ("awq", "awq.modules", "awq.modules.linear", "awq.utils"):
        package = ModuleType(name)
        package.__path__ = [str(source / name.replace(".", "/"))]
        sys.modules[name] = package
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm

    return WQLinear_GEMM, dequantize_gemm


def grid(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points [out, groups] from the smallest and largest weight of each group."""
    groups = weight.unflatten(1, (-1, GROUP))
    low, high = groups.amin(-1), groups.amax(-1)
    scales = (high - low).clamp(min=1e-5) / (2**BITS - 1)
    return scales, (-(low / scales).round()).clamp(0, 2**BITS - 1)


def make(source: Path, dense: Path, out: Path) -> None:
    """Rounds every linear layer of the decoder."""
    linear, dequantize = autoawq(source)
    tensors = load_file(dense / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager")
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or name == "lm_head":
            continue
        scales, zeros = grid(layer.weight.data)
        made = linear.from_linear(
            layer, BITS, GROUP, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
        )
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.{part}": getattr(made, part) for part in ("qweight", "qzeros", "scales")}
        layer.weight.data = dequantize(
            made.qweight, made.qzeros, made.scales.float(), BITS, GROUP
        ).T.contiguous()
    with torch.no_grad():
        logits = model(input_ids=torch.arange(3, 35)[None]).logits
    out.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "model.safetensors")
    save_file({"logits": logits.contiguous()}, out / "reference.safetensors")
    config = json.loads((dense / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "awq",
        "zero_point": True,
        "group_size": GROUP,
        "bits": BITS,
        "version": "gemm",
        "modules_to_not_convert": None,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dense = checkpoints.causal_lm(Path(folder), "llama", **SHAPE)
        make(Path(sys.argv[1]), dense, HERE / "asymmetric")
