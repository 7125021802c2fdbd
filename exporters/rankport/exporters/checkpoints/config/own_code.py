"""Code that a checkpoint brings along: `auto_map` of its JSON files. It is never run; this module says which it is."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from rankport.protos.errors import CheckpointError

_DECODERS = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys()


def own_code(file: str, raw: dict[str, Any]) -> tuple[str, ...]:
    """Lists the entries of a file's `auto_map` as "config.json: auto_map: AutoModel is Bidirectional of own.py".

    Raises CheckpointError if it is none that transformers writes.
    """
    stated = raw.get("auto_map")
    if not stated:
        return ()
    if isinstance(stated, list):  # of old tokenizers
        stated = {"AutoTokenizer": stated}
    if not isinstance(stated, dict):
        raise CheckpointError(f"{file}: auto_map is {stated!r}, must be an object of class names")
    return tuple(
        f"{file}: auto_map: {auto} is {_described(name)}"
        for auto, names in stated.items()
        for name in _names(names)
    )


def require_none(path: Path, code: Iterable[str], model_type: object, *, known: bool) -> None:
    """Raises CheckpointError if the checkpoint has code of its own; `known`: transformers has the model type too."""
    first = next(iter(code), None)
    if first is None:
        return
    said = f"checkpoint {str(path)!r} brings code of its own, which is never run ({first})"
    if not known:
        raise CheckpointError(
            f"{said}, and model_type {model_type!r} is unknown to transformers without it: it cannot be exported"
        )
    ways = ""
    if model_type in _DECODERS:
        ways = "; where the code has the model read both ways, say is_causal false in its config.json too"
    raise CheckpointError(
        f"{said}: transformers' own {model_type} may compute something else; --ignore-remote-code exports that one, "
        f"and records in the manifest that the code was left out{ways}"
    )


def _names(stated: object) -> Iterator[str]:
    for name in stated if isinstance(stated, list) else [stated]:
        if name is not None:
            yield str(name)


def _described(name: str) -> str:
    """Turns "owner/repository--module.Class" into words."""
    repository, _, place = name.rpartition("--")
    module, _, own_class = place.rpartition(".")
    there = f" of {repository}" if repository else ""
    return f"{own_class} of {module}.py{there}"
