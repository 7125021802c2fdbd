"""A planted fault: an export that went wrong in one way, sealed so that it opens as strictly as a sound one.

Owns how a fault is planted: into a copy of a bundle's graphs, weights, manifest or files, or into a copy of the
checkpoint that the bundle is verified against, as if the export had misread it. Which faults there are, tables know.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.steps.stage import WEIGHTS_FILE
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft

Edit = Callable[[ir.Model], None]
Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Subject:
    """A sound bundle, the checkpoint that it was exported from, and what `verify` is given beside them."""

    bundle: Bundle
    checkpoint: Path
    options: Mapping[str, Any] = field(default_factory=dict)


Plant = Callable[[Subject, Path], Subject]
"""Plants a fault into copies below a folder, and gives what is to be verified."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A way in which an export can be wrong."""

    name: str
    what: str  # the bundle that has it, in a sentence
    subject: str  # the fixture of a `Subject`
    plant: Plant
    told_by: str  # the mode or field that the message names
    unseen_by: tuple[str, ...] = ()  # modes that would not have told


def in_graphs(edit: Edit, *roles: str) -> Plant:
    """Edits the graphs of `roles` (default: all), and writes all graphs over one weights file as an export does."""

    def plant(subject: Subject, folder: Path) -> Subject:
        with _copied(subject.bundle, folder) as staging:
            specs = subject.bundle.manifest.graphs
            models = {Path(spec.file).stem: ir.load(staging.path / spec.file) for spec in specs}
            for stem in {Path(spec.file).stem for spec in specs if not roles or spec.role in roles}:
                edit(models[stem])
            _hold_in_memory(models)
            write_graphs(staging.path, models, WEIGHTS_FILE)
            return _sealed(subject, staging, _draft(subject.bundle))

    return plant


def both(first: Plant, second: Plant) -> Plant:
    """Plants two, for a fault that shows in two places."""

    def plant(subject: Subject, folder: Path) -> Subject:
        return second(first(subject, folder / "first"), folder / "second")

    return plant


def in_manifest(change: Callable[[ManifestDraft], Mapping[str, object]]) -> Plant:
    """Changes fields of the manifest."""

    def plant(subject: Subject, folder: Path) -> Subject:
        draft = _draft(subject.bundle)
        with _copied(subject.bundle, folder) as staging:
            return _sealed(subject, staging, draft.model_copy(update=dict(change(draft))))

    return plant


def in_file(name: str, change: Callable[[bytes], bytes]) -> Plant:
    """Changes the bytes of a file of the bundle."""

    def plant(subject: Subject, folder: Path) -> Subject:
        with _copied(subject.bundle, folder) as staging:
            file = staging.path / name
            file.write_bytes(change(file.read_bytes()))
            return _sealed(subject, staging, _draft(subject.bundle))

    return plant


def in_source(
    *, config: Mapping[str, object] | None = None, tensors: Callable[[Tensors], None] = lambda _: None
) -> Plant:
    """Changes what the checkpoint says, of which the bundle was made as if it did not."""

    def plant(subject: Subject, folder: Path) -> Subject:
        checkpoint = folder / "checkpoint"
        shutil.copytree(subject.checkpoint, checkpoint)
        _edit_json(checkpoint / "config.json", config or {})
        weights = checkpoint / "model.safetensors"
        stored = load_file(weights)
        tensors(stored)
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in stored.items()}, weights, {"format": "pt"}
        )
        return as_if_exported_from(checkpoint, checkpoint_sha256(checkpoint))(subject, folder)

    return plant


def in_source_graph(edit: Edit) -> Plant:
    """Edits the graph that a checkpoint is, of which the bundle was made as if it did not say so."""

    def plant(subject: Subject, folder: Path) -> Subject:
        checkpoint = folder / "checkpoint"
        shutil.copytree(subject.checkpoint, checkpoint)
        file = checkpoint / GRAPH
        model = ir.load(file)
        edit(model)
        ir.save(model, file)
        return as_if_exported_from(checkpoint, checkpoint_sha256(checkpoint))(subject, folder)

    return plant


def as_if_exported_from(checkpoint: Path, sha256: str) -> Plant:
    """States another source, so that parity has to tell what the hash would."""

    def plant(subject: Subject, folder: Path) -> Subject:
        draft = _draft(subject.bundle)
        source = draft.source.model_copy(update={"checkpoint_sha256": sha256})
        with _copied(subject.bundle, folder) as staging:
            sealed = _sealed(subject, staging, draft.model_copy(update={"source": source}))
        return Subject(sealed.bundle, checkpoint, sealed.options)

    return plant


def _edit_json(file: Path, changes: Mapping[str, object]) -> None:
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))


def _copied(bundle: Bundle, folder: Path) -> BundleStaging:
    staging = BundleStaging(folder / "bundle")
    for entry in bundle.manifest.files:
        staging.add(entry.path, bundle.path / entry.path)
    return staging


def _draft(bundle: Bundle) -> ManifestDraft:
    return ManifestDraft(**{name: getattr(bundle.manifest, name) for name in ManifestDraft.model_fields})


def _sealed(subject: Subject, staging: BundleStaging, draft: ManifestDraft) -> Subject:
    staging.finalize(draft)
    return Subject(staging.publish(), subject.checkpoint, subject.options)


def _hold_in_memory(models: Mapping[str, ir.Model]) -> None:
    """Reads the external tensors, whose file is about to be written anew."""
    for model in models.values():
        for value in model.graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
