"""Small LoRA adapters of small checkpoints, saved by peft as trainers save them."""

import json
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from rankport.exporters.checkpoints.forms.skeleton import quiet

IDS = torch.arange(3, 33).reshape(2, 15)
CLASSES: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "classifier": AutoModelForSequenceClassification,
    "tagger": AutoModelForTokenClassification,
    "body": AutoModel,
}


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter's folder and the model that it was saved from, not merged."""

    folder: Path
    model: PeftModel

    def outputs(self, ids: Tensor = IDS) -> Tensor:
        """What the trained model answers: logits, or hidden states of a body."""
        return outputs(self.model, ids)


def lora(
    folder: Path,
    base: Path,
    *,
    kind: str = "causal",
    vocabulary: int | None = None,
    labels: int = 2,
    **config: Any,
) -> Trained:
    """Adapts the checkpoint `base` with random weights, its vocabulary resized if asked, and saves the adapter.

    With `token_indices` it is one of rows of tables alone.
    """
    torch.manual_seed(11)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        options = {"num_labels": labels} if kind in ("classifier", "tagger") else {}
        model = CLASSES[kind].from_pretrained(
            base, dtype=torch.float32, attn_implementation="eager", **options
        )
        if vocabulary is not None:
            model.resize_token_embeddings(vocabulary, mean_resizing=False)
        fields = {
            "r": 4,
            "lora_alpha": 6,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            **deepcopy(config),
        }
        alone = TrainableTokensConfig(**config) if "token_indices" in config else None
        wrapped = get_peft_model(model, LoraConfig(**fields) if alone is None else alone)
        _train(wrapped)
        wrapped.save_pretrained(str(folder))
    return Trained(folder, wrapped.eval())


def outputs(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    """Logits of every position, or of the sequence; hidden states of a body."""
    with torch.no_grad():
        answer = model(input_ids=ids, use_cache=False)
    result: Tensor = answer.logits if "logits" in answer else answer.last_hidden_state
    return result


def merged_by_hand(base: Path, adapter: Path, scale: float) -> nn.Module:
    """Without peft: W + scale * B A for each pair, stored modules in place of the base's, untied, fp32."""
    config = AutoConfig.from_pretrained(base)
    tensors = {name: tensor.float() for name, tensor in load_file(base / "model.safetensors").items()}
    tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    trained = {
        name.removeprefix("base_model.model."): tensor.float() for name, tensor in stored(adapter).items()
    }
    for name, tensor in trained.items():
        module = name.removesuffix(".lora_A.weight")
        if module != name:
            tensors[f"{module}.weight"] += scale * trained[f"{module}.lora_B.weight"] @ tensor
        elif name in tensors:
            tensors[name] = tensor
    config.vocab_size = len(tensors["lm_head.weight"])
    config.tie_word_embeddings = False
    model: nn.Module = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    )
    model.load_state_dict(tensors)
    return model.eval()


def edit_config(folder: Path, **fields: Any) -> None:
    """Overwrites fields of adapter_config.json."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def edit_tensors(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Overwrites, adds or (None) removes stored tensors."""
    file = folder / "adapter_model.safetensors"
    tensors: dict[str, Tensor | None] = {**load_file(file), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)


def stored(folder: Path) -> dict[str, Tensor]:
    """The adapter's tensors as they lie on disk."""
    return load_file(folder / "adapter_model.safetensors")


def _train(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
