"""`modules.json`: the modules that sentence-transformers runs in turn, and the folders that hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.published import jina
from rankport.protos.errors import CheckpointError
from rankport.protos.files.json_text import json_of_text

MODULES_FILE = "modules.json"
ROUTER_FILE = "router_config.json"
_KEYS = frozenset({"idx", "name", "path", "type", "kwargs"})
_NAMESPACE = "sentence_transformers."
_ALIKE = {"pylate.models.Dense.Dense": "sentence_transformers.models.Dense"}
"""Classes of other libraries that do the same, by the same config and weights."""
_TASK = ["task"]


@dataclass(frozen=True, slots=True)
class StatedModule:
    """One entry: the class, and the folder of its config and weights, which need not exist."""

    kind: str  # the last part of its type: Transformer, Pooling, ...
    folder: Path


def stated_modules(path: Path) -> tuple[StatedModule, ...] | None:
    """Reads the modules of a checkpoint folder in order; None if it is no folder of sentence-transformers.

    Raises CheckpointError for another form, a path out of the folder, and a class of somebody else's code.
    """
    file = path / MODULES_FILE
    if not file.is_file():
        return None
    try:
        entries = json_of_text(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise CheckpointError(f"{file} must be a list of modules, at least one")
    return tuple(_module(path, entry, f"{file}[{place}]") for place, entry in enumerate(entries))


def transformer_folder(path: Path) -> Path:
    """Finds where a checkpoint's model and tokenizer lie: the folder itself, or the one that `modules.json` names.

    Raises CheckpointError as `stated_modules`, and for a folder without a transformer: word vectors, counts, a router.
    """
    modules = stated_modules(path)
    if modules is None:
        return path
    masked = ("MLMTransformer",) if pools_logits(path) else ()
    for module in (*modules, *stated_routes(path).get("document", ())):
        if module.kind in ("Transformer", *masked):
            return module.folder
    raise CheckpointError(
        f"{path / MODULES_FILE} has a {modules[0].kind} module in the place of a Transformer, which no graph here "
        "computes: serve this one with sentence-transformers, or train one of a Transformer"
    )


def stated_routes(path: Path) -> Mapping[str, tuple[StatedModule, ...]]:
    """Reads the modules that a Router of a folder has for each task; of a folder without one there are none.

    Raises CheckpointError for another form, and for routes that go by more than the task.
    """
    router = next((module for module in stated_modules(path) or () if module.kind == "Router"), None)
    file = None if router is None else router.folder / ROUTER_FILE
    if router is None or file is None or not file.is_file():
        return {}
    stated = read_json_object(file)
    types, structure, own = (stated.get(name) for name in ("types", "structure", "parameters"))
    if not isinstance(types, dict) or not isinstance(structure, dict):
        raise CheckpointError(f"{file} must have types and structure, an object each")
    if isinstance(own, dict) and own.get("route_mappings"):
        raise CheckpointError(
            f"{file}: route_mappings {own['route_mappings']}: only routes by the task, query and document, can be "
            "exported: name the routes so, and leave the mappings out"
        )
    return {
        str(route): tuple(_routed(router.folder, types, name, f"{file}: structure.{route}") for name in names)
        for route, names in structure.items()
        if isinstance(names, list)
    }


def pools_logits(path: Path) -> bool:
    """Tells a folder that pools a masked LM's logits, as sparse encoders do, by a Router too."""
    routed = (module for route in stated_routes(path).values() for module in route)
    return any(module.kind == "SpladePooling" for module in (*(stated_modules(path) or ()), *routed))


def module_folders(path: Path) -> tuple[Path, ...]:
    """Lists the checkpoint folder and those that `modules.json` names, each once; a stale one is not among them."""
    routed = (module for route in stated_routes(path).values() for module in route)
    return tuple(
        dict.fromkeys([path, *(module.folder for module in (*(stated_modules(path) or ()), *routed))])
    )


def _module(path: Path, entry: object, where: str) -> StatedModule:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise CheckpointError(f"{where} must be an object with a type and a path")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise CheckpointError(f"{where} has the unknown key {unknown[0]!r}")
    stated: str = entry["type"]
    kind = _ALIKE.get(stated, stated)
    folder = path / _inside(entry.get("path"), where)
    # Told the task in each call, which of a bundle is said at its export.
    if kind == jina.MODULE and entry.get("kwargs") in (None, [], _TASK) and _has_tasks(folder):
        return StatedModule("Transformer", folder)
    if entry.get("kwargs"):
        raise CheckpointError(
            f"{where}.kwargs {entry['kwargs']}: arguments of a call cannot be exported: remove those not needed"
        )
    if not kind.startswith(_NAMESPACE):
        raise CheckpointError(
            f"{where}.type {kind!r} is code of the checkpoint's own, which is never run: save the model with modules "
            "of sentence-transformers"
        )
    return StatedModule(kind.rsplit(".", 1)[-1], folder)


def _routed(folder: Path, types: Mapping[str, object], name: object, where: str) -> StatedModule:
    return _module(folder, {"type": types.get(str(name)), "path": name}, f"{where} {name!r}")


def _has_tasks(folder: Path) -> bool:
    file = folder / "config.json"
    return file.is_file() and jina.has_tasks(read_json_object(file))


def _inside(place: object, where: str) -> str:
    if not isinstance(place, str):
        raise CheckpointError(f"{where}.path is {place!r}, must be a text")
    parts = PurePosixPath(place.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise CheckpointError(f"{where}.path {place!r} leads out of the checkpoint folder")
    return parts.as_posix()
