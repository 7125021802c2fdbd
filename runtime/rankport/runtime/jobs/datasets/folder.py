"""Folder of a dataset: whose it is, who fills it, and which of its parts may be deleted.

Files of others are never touched.
"""

import fcntl
import os
import re
from collections.abc import Collection
from pathlib import Path

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.jobs.datasets import DATASET_FILE, DatasetFormat, dataset_content
from rankport.runtime.jobs.datasets.formats import format_of_part, parts_in

# As `windows` names them: those of other tools begin with `part-` too.
_PART = re.compile(r"part-\d{5,}-\d{7,}-[0-9a-f]{16}(\.parquet|\.arrow|\.fragment\.json)")
_HALF_WRITTEN = re.compile(rf"\.({_PART.pattern}|{re.escape(DATASET_FILE)})\.\d+\.writing")
_LANCE = frozenset({"_transactions", "_versions", "data"})


def locked(folder: Path, dataset: Path | None = None) -> int | None:
    """Keeps other jobs out of a folder until the descriptor is closed; None where the file system has no locks.

    Raises `StoreError` where another job fills it: the `dataset` that it becomes, if that has another name.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreError(
            f"another job fills dataset {dataset or folder}: wait until it has ended, or give another folder"
        ) from error
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def check_own(folder: Path) -> None:
    """Raises `StoreError` for a folder with files of others: more of them would spoil it, and be lost with it.

    A dataset may stand there, or what is left of a job that was killed.
    """
    if dataset_content(folder):
        return
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    parts = {name for name in names if _PART.fullmatch(name)}
    own = {*parts, DATASET_FILE, *(_LANCE if _has_fragments(folder, parts) else ())}
    for name in names:
        if name not in own:
            raise StoreError(f"{folder} holds {name!r}: a new dataset needs an empty folder")


def check_format(folder: Path, part_format: DatasetFormat) -> None:
    """Raises `InvalidRequest` where a folder has a dataset of another format; one that says nothing is made anew."""
    try:
        stands = {format_of_part(name) for name in named_parts(folder)}
    except StoreError:
        return
    if stands - {part_format}:
        raise InvalidRequest(
            f"{folder} is a dataset in {', '.join(sorted(stands))}, not {part_format}: give another folder"
        )


def parts_to_delete(folder: Path, kept: Collection[str]) -> list[Path]:
    """Lists the parts of jobs and of the dataset that stands there, but those that are kept."""
    named = named_parts(folder)
    return [
        part
        for part in parts_in(folder)
        if part.name not in kept and (part.name in named or _PART.fullmatch(part.name))
    ]


def named_parts(folder: Path) -> frozenset[str]:
    """Names the parts that the dataset in a folder says it has; none where there is no dataset."""
    try:
        return frozenset(part["name"] for part in dataset_content(folder)["parts"])
    except (KeyError, TypeError):
        return frozenset()


def half_written(folder: Path) -> list[Path]:
    """Lists what jobs that were killed left of files that they wrote."""
    return [path for path in folder.glob(".*.writing") if _HALF_WRITTEN.fullmatch(path.name)]


def _has_fragments(folder: Path, parts: Collection[str]) -> bool:
    """Says whether folders of Lance's are a job's: it has noted a fragment, or was killed before its first one was."""
    if any(name.endswith(".fragment.json") for name in parts):
        return True
    return not (folder / "_versions").exists() and all(
        file.suffix == ".lance" for file in (folder / "data").glob("*")
    )
