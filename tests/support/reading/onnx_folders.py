"""Folders as `optimum-cli export onnx` writes them: model.onnx, config.json and the tokenizer's files.

Made by torch's own exporter, which optimum calls too, with its names of inputs, outputs and axes.
"""

import json
import shutil
import warnings
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from torch.onnx.utils import export as torch_script_export

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 14  # of optimum for BERT
_TASKS = {
    "feature-extraction": (transformers.AutoModel, "last_hidden_state"),
    "text-classification": (transformers.AutoModelForSequenceClassification, "logits"),
    "token-classification": (transformers.AutoModelForTokenClassification, "logits"),
}
_AXES = {0: "batch_size", 1: "sequence_length"}


class _Wrapped(nn.Module):
    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        answer = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        rows: Tensor = getattr(answer, self.output)
        return rows


class _Pooled(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        given = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        states = self.model(input_ids=input_ids, **given).last_hidden_state
        weights = attention_mask[:, :, None].to(states.dtype)
        means = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return states, nn.functional.normalize(means, dim=-1)


def onnx_folder(checkpoint: Path, folder: Path, task: str = "feature-extraction") -> Path:
    """Writes the ONNX folder of a BERT-like checkpoint, as `--task` asks for."""
    auto, output = _TASKS[task]
    model = auto.from_pretrained(checkpoint, attn_implementation="eager").eval()
    axes = {output: {0: "batch_size"} if task == "text-classification" else dict(_AXES)}
    return _written(checkpoint, folder, _Wrapped(model, output), axes)


def sentence_folder(checkpoint: Path, folder: Path) -> Path:
    """Writes the ONNX folder of a model of sentence-transformers: states, and their means of unit length."""
    model = transformers.AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    axes = {"token_embeddings": dict(_AXES), "sentence_embedding": {0: "batch_size"}}
    return _written(checkpoint, folder, _Pooled(model), axes)


def _written(checkpoint: Path, folder: Path, module: nn.Module, outputs: dict[str, dict[int, str]]) -> Path:
    folder.mkdir(parents=True)
    ids = torch.ones(2, 5, dtype=torch.int64)
    axes = {value: dict(_AXES) for value in INPUTS} | outputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_script_export(
            module,
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(folder / "model.onnx"),
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    for file in checkpoint.glob("*.json"):
        shutil.copy(file, folder / file.name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"export_model_type": "transformer"}))
    return folder
