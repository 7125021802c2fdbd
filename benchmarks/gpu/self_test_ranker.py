"""Makes the small ranker that `rankport doctor --self-test` runs, with the answers that torch gives: see its folder.

    OMP_NUM_THREADS=1 python -m benchmarks.gpu.self_test_ranker

Run it again when the exporter makes other graphs of a decoder.
"""

import argparse
import json
import tempfile

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.runtime.backends.trial.sample import ANSWERS, BUNDLE, FOLDER, sample_tokens

LABEL_IDS = (4, 5)
_SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "head_dim": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    # So large that logits differ by whole numbers: what a GPU leaves out is seen.
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def main() -> None:
    """Replaces bundle and answers in the package."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen3", **_SHAPE)
    model = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        bundle = export(
            scratch,
            FOLDER / BUNDLE,
            kind="ranker",
            name="self-test",
            label_ids=LABEL_IDS,
            max_prefix_tokens=32,
            max_item_tokens=16,
            target="onnx-cpu,onnx-cuda",
            overwrite=True,
        )
    answers = {"logits": logits(model).tolist(), "logits_in_tf32": tf32_logits(model).tolist()}
    (FOLDER / ANSWERS).write_text(json.dumps(answers, indent=1) + "\n")
    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    print(f"{bundle.path}: {size} bytes; TF32 is off by {np.ptp(np.subtract(*answers.values())):.1e}")


def logits(model: torch.nn.Module) -> np.ndarray:
    """Computes the logits of each item behind the whole prompt. [items, labels]"""
    prefix, items = sample_tokens()
    rows = []
    with torch.no_grad():
        for item in items:
            ids = torch.tensor([[*prefix, *item]])
            rows.append(model(ids).logits[0, -1, list(LABEL_IDS)].numpy())
    return np.array(rows)


def tf32_logits(model: torch.nn.Module) -> np.ndarray:
    """Computes the same with inputs and weights of every linear layer rounded to the ten bits that TF32 keeps."""

    def rounded(values: torch.Tensor) -> torch.Tensor:
        return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [
        module.register_forward_pre_hook(lambda _, given: (rounded(given[0].contiguous()),))
        for module in linear
    ]
    kept = [module.weight.data for module in linear]
    for module in linear:
        module.weight.data = rounded(module.weight.data)
    try:
        return logits(model)
    finally:
        for hook in hooks:
            hook.remove()
        for module, weight in zip(linear, kept, strict=True):
            module.weight.data = weight


if __name__ == "__main__":
    main()
