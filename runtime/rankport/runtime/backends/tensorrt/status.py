"""What a bundle's engines are worth here and now: which still fit the bundle, and which could run.

Reads and hashes; loads no TensorRT, so the version at hand is read off the installed packages.
"""

from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import BundleError
from rankport.runtime.backends.tensorrt.module import installed_version
from rankport.runtime.backends.tensorrt.plan_files import (
    Engine,
    EngineRecord,
    engines_of,
    graph_hashes,
    open_plan,
)
from rankport.runtime.backends.tensorrt.plan_key import EngineKey, in_words
from rankport.runtime.bundle.bundle import Bundle


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine and what became of it."""

    path: Path
    record: EngineRecord | None  # None: it cannot be read
    misfit: str  # why it does not fit the bundle any more; empty if it does
    other_version: str  # why this machine's packages cannot load it; empty if they can


def engine_statuses(bundle: Bundle) -> list[EngineStatus]:
    """Every engine of the bundle; every plan is hashed."""
    return [
        EngineStatus(path, None, str(engine), "")
        if isinstance(engine, BundleError)
        else EngineStatus(path, engine.record, _misfit(bundle, engine), _other_version(engine.record.key))
        for path, engine in engines_of(bundle).items()
    ]


def _misfit(bundle: Bundle, engine: Engine) -> str:
    key = engine.record.key
    if all(graph.file != key.graph for graph in bundle.manifest.graphs):
        return f"the bundle has no graph {key.graph}"
    graph_sha256, weights = graph_hashes(bundle, key.graph)
    differences = key.differences(key.model_copy(update={"graph_sha256": graph_sha256, "weights": weights}))
    if differences:
        return in_words(differences)
    try:
        with open_plan(engine):
            return ""
    except BundleError as error:
        return str(error)


def _other_version(key: EngineKey) -> str:
    here = installed_version(key.module)
    return "" if here == key.module_version else f"{key.module} here is {here or 'not installed'}"
