"""Task of a checkpoint as optimum infers it, and the kinds of models that do such a task.

Owns the way to optimum, which is imported when a kind is to be found and nowhere else. Whether a kind takes a
checkpoint is its own claim: a task narrows claims, and makes none.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import transformers

from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders

TASK_KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "feature-extraction": ("item-encoder",),
        "sentence-similarity": ("item-encoder",),
        "text-classification": ("cross-encoder", "classifier", "ranker"),
        "token-classification": ("tagger",),
        "text-generation": ("ranker",),
        "text2text-generation": ("cross-encoder", "seq2seq"),
    }
)
"""Kinds by what optimum calls a task. Of other tasks (`fill-mask`, say) no kind is spoken for."""


@dataclass(frozen=True, slots=True)
class InferredTask:
    """Word of optimum on a checkpoint."""

    task: str  # "" where it knows none
    library: str  # "transformers" | "sentence_transformers"; "" where it knows no task
    reason: str  # in words: "optimum: text-generation of transformers"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds that do the task; none if it is unknown."""
        return TASK_KINDS.get(self.task, ())


def inferred_task(model: StatedModel) -> InferredTask:
    """Asks optimum for library and task, by the folder's files and by the class that its config names.

    Reads files of the folder alone, never a hub, and runs none of its code.
    """
    try:
        from optimum.exporters.tasks import TasksManager
    except ImportError as error:
        return _unknown(f"cannot be asked: {error}")
    # An adapter has no config.json of its own: its base speaks, unless it lies in a folder of sentence-transformers.
    folders = speaking_folders(model.path, model.base)
    speaks = model.makes_embeddings or (folders[0] / "config.json").is_file()
    folder = folders[0] if speaks else folders[-1]
    try:
        library = str(TasksManager.infer_library_from_model(str(folder)))
    except (ValueError, OSError) as error:
        return _unknown(f"knows no library of it: {error}")
    if model.makes_embeddings:
        if library != "sentence_transformers":
            return _unknown(f"takes it for one of {library}, and modules.json pools")
        return _known("feature-extraction", library)
    architecture = getattr(transformers, model.architecture, None)
    if isinstance(architecture, type):  # it would take a text for a model's name, and ask a hub
        with suppress(ValueError):
            return _known(str(TasksManager.infer_task_from_model(architecture)), library)
    return _unknown(f"knows no task of {model.architecture}")


def _known(task: str, library: str) -> InferredTask:
    return InferredTask(task, library, f"optimum: {task} of {library}")


def _unknown(why: str) -> InferredTask:
    return InferredTask("", "", f"optimum {why}")
