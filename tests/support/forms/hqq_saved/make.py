"""Makes the checkpoints beside this file with HQQ and transformers 4, the last that saves them.

Run by hand, in an environment of its own: `pip install hqq==0.2.8.post1 transformers==4.57.6`, then
`python tests/support/forms/hqq_saved/make.py DENSE`, where DENSE is a folder that `checkpoints.causal_lm` wrote with
SHAPE. `reference.safetensors` holds the logits that HQQ's own layers give in fp32 for the ids 3..34.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, HqqConfig

HERE = Path(__file__).parent
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "tie_word_embeddings": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "four_bits": {"nbits": 4, "group_size": 32},
    "mixed": {
        "dynamic_config": {
            "self_attn.q_proj": {"nbits": 8, "group_size": 32},
            "self_attn.k_proj": {"nbits": 3, "group_size": 32, "axis": 0},
            "self_attn.v_proj": {"nbits": 2, "group_size": 16},
            "self_attn.o_proj": {"nbits": 4, "group_size": 64, "axis": 0},
            "mlp.gate_proj": {"nbits": 1, "group_size": 32},
            "mlp.up_proj": {"nbits": 4, "group_size": None, "view_as_float": True},
            "mlp.down_proj": {"nbits": 3, "group_size": 64},
        }
    },
}


def make(name: str, how: dict[str, Any], dense: Path) -> None:
    """One variant: saved in fp16, read and run in fp32."""
    torch.manual_seed(0)
    config = HqqConfig(**how)
    model = AutoModelForCausalLM.from_pretrained(
        dense, dtype=torch.float16, quantization_config=config, device_map="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        (HERE / name).mkdir(exist_ok=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(Path(folder) / file, HERE / name / file)
    read = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, device_map="cpu")
    with torch.no_grad():
        logits = read(input_ids=torch.arange(3, 35)[None]).logits
    save_file({"logits": logits.contiguous()}, HERE / name / "reference.safetensors")


if __name__ == "__main__":
    for name, how in VARIANTS.items():
        make(name, how, Path(sys.argv[1]))
