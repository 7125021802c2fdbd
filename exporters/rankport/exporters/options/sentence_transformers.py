"""The word of a sentence-transformers folder on the encoder in it: pooling and normalization."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Pooling

JsonT = TypeVar("JsonT", dict[str, Any], list[Any])

_POOLING: MappingProxyType[str, Pooling] = MappingProxyType(
    {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last-k",
        "mean": "mean",
        "cls": "cls",
        "lasttoken": "last-k",
    }
)


def stored_pooling(path: Path) -> Pooling | None:
    """Reads the pooling of a checkpoint folder; None if it says nothing. Raises CheckpointError for another one."""
    file = path / "1_Pooling" / "config.json"
    if not file.is_file():
        return None
    config = _read_json(file, dict)
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    mode = config.get("pooling_mode")  # how newer releases write it
    chosen = [str(mode)] if mode is not None else chosen
    if len(chosen) == 1 and chosen[0] in _POOLING:
        return _POOLING[chosen[0]]
    raise CheckpointError(
        f"{file} asks for pooling {chosen}: only {', '.join(_POOLING)} alone can be exported"
    )


def stored_normalize(path: Path) -> bool:
    """Tells whether a checkpoint folder normalizes. Raises CheckpointError for a module that a graph would lack."""
    file = path / "modules.json"
    if not file.is_file():
        return False
    modules = _read_json(file, list)
    types = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    unknown = [name for name in types if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise CheckpointError(
            f"{file} has modules {unknown}, which the encode graph lacks: it would be another model"
        )
    return "Normalize" in types


def _read_json(file: Path, kind: type[JsonT]) -> JsonT:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(content, kind):
        raise CheckpointError(f"{file} holds a JSON {type(content).__name__}, must be a {kind.__name__}")
    return content
