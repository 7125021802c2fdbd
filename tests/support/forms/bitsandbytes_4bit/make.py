"""Makes the checkpoints beside this file with transformers and bitsandbytes: witnesses that no code of ours wrote.

Run by hand: `pip install bitsandbytes==0.50.2 accelerate`, then `python tests/support/forms/bitsandbytes_4bit/make.py`.
`reference.safetensors` holds the logits of the weights that bitsandbytes dequantizes, in fp32, for the ids 3..34: its
own layers multiply in bf16 on a CPU.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from support import checkpoints  # noqa: E402

VARIANTS: dict[str, dict[str, Any]] = {
    "nf4_nested": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"bnb_4bit_quant_type": "fp4"},
}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "tie_word_embeddings": True,
}


def make(name: str, arguments: dict[str, Any], dense: Path) -> None:
    """One variant, saved by transformers."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **arguments)
    model = AutoModelForCausalLM.from_pretrained(
        dense, quantization_config=config, dtype=torch.float32, attn_implementation="eager", device_map="cpu"
    )
    model.save_pretrained(HERE / name)  # before a run, which packs layers for the CPU
    whole = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager")
    for layer, module in model.named_modules():
        if isinstance(module, Linear4bit):
            weight = module.weight
            whole.get_submodule(layer).weight.data = dequantize_4bit(weight.data, weight.quant_state)
    with torch.no_grad():
        logits = whole(input_ids=torch.arange(3, 35)[None]).logits
    save_file({"logits": logits.contiguous()}, HERE / name / "reference.safetensors")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dense = checkpoints.causal_lm(Path(folder), "llama", **SHAPE)
        for name, arguments in VARIANTS.items():
            make(name, arguments, dense)
