"""A checkpoint folder before any weight is read: its config and what it stores."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import transformers
from torch import nn

from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.exporters.quantization.facts import QuantizationFacts
from rankport.protos.errors import CheckpointError

Head = Literal["lm_head", "classification_head", "none"]


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """config.json and the stored tensors of one folder."""

    path: Path
    raw: dict[str, Any]  # config.json
    tensors: StoredTensors

    @classmethod
    def open(cls, path: Path) -> "CheckpointFolder":
        """Raises CheckpointError naming the file that is missing or damaged."""
        if not path.is_dir():
            raise CheckpointError(
                f"checkpoint {str(path)!r} is not a folder: give a Hugging Face checkpoint on disk"
            )
        return cls(path, read_json_object(path / "config.json"), StoredTensors.open(path))

    @property
    def architecture(self) -> str:
        """The class that the config names."""
        return str((self.raw.get("architectures") or ["?"])[0])

    @property
    def quantization_method(self) -> str | None:
        """`quantization_config.quant_method`, if the checkpoint is quantized."""
        stated = self.raw.get("quantization_config")
        if stated is None:
            return None
        if not isinstance(stated, dict):
            raise CheckpointError(f"config.json: quantization_config is {stated!r}, must be an object")
        return str(stated.get("quant_method", "?"))


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Model and facts that a form's loader makes."""

    model: nn.Module  # fp32 but for its quantized layers, eval mode, on the CPU, eager attention
    quantization: QuantizationFacts | None = None
    notes: tuple[str, ...] = ()  # what the loader read off the tensors against the config's word


def read_json_object(file: Path) -> dict[str, Any]:
    """Reads a JSON object from a file of a checkpoint. Raises CheckpointError."""
    if not file.is_file():
        raise CheckpointError(f"checkpoint {str(file.parent)!r} has no {file.name}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_hook=_special_float)
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a JSON {type(content).__name__}, must be an object")
    return content


def _special_float(part: dict[str, Any]) -> object:
    """transformers writes infinities, which JSON lacks, as {"__float__": "Infinity"}."""
    return float(part["__float__"]) if set(part) == {"__float__"} else part


def parse_config(folder: CheckpointFolder) -> transformers.PreTrainedConfig:
    """Makes transformers' config of the folder, without a quantizer. Raises CheckpointError; runs no code of it."""
    raw = {key: value for key, value in folder.raw.items() if key != "quantization_config"}
    kind = str(raw.get("model_type"))
    if kind not in transformers.CONFIG_MAPPING:
        own = ", and its own code (auto_map) is never run" if "auto_map" in raw else ""
        raise CheckpointError(
            f"{folder.path / 'config.json'}: model_type {kind!r} is unknown to transformers "
            f"{transformers.__version__}{own}"
        )
    try:
        config: transformers.PreTrainedConfig = transformers.CONFIG_MAPPING[kind].from_dict(raw)
    except Exception as error:  # config classes validate with exceptions of their own
        raise CheckpointError(f"cannot read {folder.path / 'config.json'}: {error}") from error
    return config
