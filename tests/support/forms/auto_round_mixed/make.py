"""Makes the checkpoints beside this file with AutoRound itself: witnesses of layers that have bits of their own.

Run by hand, in an environment of its own: `pip install auto-round==0.16.1 transformers==5.24.0`, then
`python tests/support/forms/auto_round_mixed/make.py`. `reference.safetensors` holds the logits that AutoRound's own
layers give in fp32 for the ids 3..34, with the stored fp16 scales.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from auto_round import AutoRound
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from support import checkpoints  # noqa: E402

VARIANTS = {"symmetric": True, "asymmetric": False}
LAYERS: dict[str, dict[str, Any]] = {
    "model.layers.0.mlp.down_proj": {"bits": 2, "group_size": 32},
    "model.layers.0.self_attn.q_proj": {"bits": 8},
    "model.layers.0.mlp.up_proj": {"bits": 16},
    "mlp.gate": {"bits": 3},  # a part of a name, which is stored as a regular expression
}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "vocab_size": 128,
    "tie_word_embeddings": True,
}


def make(name: str, sym: bool, dense: Path) -> None:
    """One variant: rounded to nearest, saved by AutoRound, read and run by it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    words = Tokenizer(models.WordLevel({f"w{place}": place for place in range(128)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w1", eos_token="w2")
    how: dict[str, Any] = {"scheme": "W4A16", "group_size": 64, "sym": sym, "layer_config": LAYERS}
    rounding = AutoRound(model, tokenizer, iters=0, disable_opt_rtn=True, device_map="cpu", **how)
    with tempfile.TemporaryDirectory() as folder:
        rounding.quantize_and_save(folder, format="auto_round")
        (saved,) = (path.parent for path in Path(folder).rglob("model.safetensors"))
        (HERE / name).mkdir(exist_ok=True)
        for file in ("config.json", "quantization_config.json", "model.safetensors"):
            shutil.copy(saved / file, HERE / name / file)
    read = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, device_map="cpu")
    nn.Module.float(read)  # AutoRound reads all of a model in fp16: what is stored is put back
    read.load_state_dict(load_file(HERE / name / "model.safetensors"), strict=False)
    read.model.rotary_emb = AutoModelForCausalLM.from_pretrained(dense).model.rotary_emb
    with torch.no_grad():
        logits = read(input_ids=torch.arange(3, 35)[None]).logits
    save_file({"logits": logits.contiguous()}, HERE / name / "reference.safetensors")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dense = checkpoints.causal_lm(Path(folder), "llama", **SHAPE)
        for name, sym in VARIANTS.items():
            make(name, sym, dense)
