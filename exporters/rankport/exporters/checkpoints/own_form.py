"""Checkpoints of our own form: a config.json that is read strictly, and one file of tensors beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.bundle.strict import Strict


class OwnConfig(Strict):
    """Base of contents of such a config.json. Unknown fields are errors."""

    @classmethod
    def read(cls, raw: Mapping[str, Any], where: Path) -> Self:
        """Reads the contents of config.json. Raises CheckpointError naming the field at fault."""
        try:
            return cls.model_validate(dict(raw))
        except ValidationError as error:
            raise CheckpointError(f"{where}: {explain(error)}") from None


def write_own_form(folder: Path, config: OwnConfig, model: nn.Module) -> None:
    """Writes config.json, which opens with its `model_type` and `architectures`, and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    named = config.model_dump(mode="json", include={"model_type", "architectures"})
    fields = named | config.model_dump(mode="json", exclude_defaults=True)
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_tensors(tensors, folder / "model.safetensors", {"format": "pt"})


def save_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str] | None) -> None:
    """Writes a safetensors file that others may read as the umask says: safetensors' own are their writer's alone."""
    file.touch()
    mode = file.stat().st_mode
    save_file(tensors, file, metadata)
    file.chmod(mode)
