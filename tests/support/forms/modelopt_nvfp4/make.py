"""Makes the checkpoint beside this file with NVIDIA's ModelOpt: a witness that no code of ours wrote.

Run by hand: `pip install nvidia-modelopt==0.47.0 accelerate`, then
`python tests/support/forms/modelopt_nvfp4/make.py`. `reference.safetensors` holds two of the weights that
ModelOpt dequantizes, in fp32: it rounds inputs on a GPU alone.
"""

import sys
import tempfile
from pathlib import Path

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from support import checkpoints  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dense = checkpoints.causal_lm(
            Path(folder),
            "llama",
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=1,
            tie_word_embeddings=True,
        )
        model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager")
        ids = torch.arange(3, 35)[None]
        mtq.quantize(model, mtq.NVFP4_DEFAULT_CFG, lambda model: model(input_ids=ids))
        export_hf_checkpoint(model, dtype=torch.float32, export_dir=str(HERE))
    tensors = load_file(HERE / "model.safetensors")
    weights = {}
    for name, unit in tensors.items():
        if name.endswith(("q_proj.weight_scale_2", "down_proj.weight_scale_2")):
            name = name.removesuffix("_scale_2")
            packed = tensors[name]
            shape = torch.Size((len(packed), 2 * packed.shape[1]))
            weights[name] = NVFP4QTensor(shape, torch.float32, packed).dequantize(
                scale=tensors[f"{name}_scale"], double_scale=unit, block_sizes={-1: 16}
            )
    save_file(weights, HERE / "reference.safetensors")
