"""Makes the checkpoints beside this file with optimum itself: witnesses of the GPTQ format that no code of ours wrote.

Run by hand, in an environment of its own: `pip install optimum==2.3.0 gptqmodel==7.7.0`, then
`python tests/support/forms/gptq_optimum/make.py`. `reference.safetensors` holds the logits that GPT-QModel's own layers
give in fp32 for the ids 3..34, with the stored fp16 scales.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from optimum.gptq import GPTQQuantizer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from support import checkpoints  # noqa: E402

VARIANTS: dict[str, dict[str, Any]] = {
    "symmetric": {"bits": 4, "group_size": 32, "desc_act": False, "sym": True},
    "asymmetric_act_order": {"bits": 4, "group_size": 32, "desc_act": True, "sym": False},
    "three_bits": {"bits": 3, "group_size": 32, "desc_act": False, "sym": True},
    "two_bits_act_order": {"bits": 2, "group_size": 32, "desc_act": True, "sym": False},
}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "tie_word_embeddings": True,
}


def make(name: str, arguments: dict[str, Any], dense: Path) -> None:
    """One variant: optimum's GPTQ over random tokens, saved by optimum."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    tokens = [torch.randint(3, checkpoints.VOCABULARY, (1, 32)) for _ in range(8)]
    samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in tokens]
    quantizer = GPTQQuantizer(dataset=samples, act_group_aware=False, backend="torch", **arguments)
    model = quantizer.quantize_model(model)
    quantizer.dataset = None  # tensors, which its own config cannot hold
    model.config.quantization_config["dataset"] = None
    layers = [module for module in model.modules() if hasattr(module, "qweight")]
    stored = [layer.scales.data for layer in layers]
    for layer in layers:
        layer.scales.data = layer.scales.data.to(torch.float32)
    with torch.no_grad():
        logits = model(input_ids=torch.arange(3, 35)[None]).logits
    for layer, scales in zip(layers, stored, strict=True):
        layer.scales.data = scales
    quantizer.save(model, str(HERE / name))
    save_file({"logits": logits.contiguous()}, HERE / name / "reference.safetensors")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dense = checkpoints.causal_lm(Path(folder), "llama", **SHAPE)
        for name, arguments in VARIANTS.items():
            make(name, arguments, dense)
