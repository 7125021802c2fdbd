"""Plans of a bundle: `plans/<gpu or architecture>-<module>-<version>/<graph>/`, a plan and the `plan.json` of it.

Owns where they lie, how they are written and read, and which one serves. It builds none: that is `build`'s.
A bundle is complete without plans, and `Bundle.open` does not look at them.
"""

import hashlib
import json
import mmap
import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from rankport.protos.errors import BundleError
from rankport.protos.reasons import reason_of
from rankport.runtime.backends.tensorrt.plan_key import PlanKey, join_differences
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.files import PLANS_DIRECTORY
from rankport.runtime.bundle.graph_files import external_files
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.bundle.strict import Sha256, Strict
from rankport.runtime.bundle.strict_json import strict_json

RECORD_NAME = "plan.json"
PLAN_NAME = "plan.bin"
MAX_RECORD_BYTES = 1024 * 1024

_AGAIN = "build it again: rankport build"


class PlanFile(Strict):
    """Size and hash of a plan as it was written."""

    size: Annotated[int, Field(gt=0)]
    sha256: Sha256


class PlanRecord(Strict):
    """Contents of `plan.json`."""

    format: Literal["rankport-plan"]
    format_version: Literal[1]
    key: PlanKey
    file: PlanFile


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """Plan of a bundle, by its record; its bytes are checked when it is opened."""

    path: Path  # of its directory
    record: PlanRecord


@dataclass(frozen=True, slots=True)
class LookUp:
    """Answer to `look_up`: the plan that fits, or in words why none does."""

    plan: StoredPlan | None
    reason: str


def graph_hashes(bundle: Bundle, graph: str) -> tuple[str, dict[str, str]]:
    """Returns the SHA-256 of a graph of the bundle, and of the files of its external tensors by name."""
    listed = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    return listed[graph], {name: listed[name] for name in sorted(external_files(bundle, graph))}


def plan_directory(bundle: Bundle, key: PlanKey) -> Path:
    """Returns where the plan of a key lies. Other profiles or options take the same place."""
    machine = re.sub(r"[^a-z0-9]+", "-", key.gpu.lower()).strip("-") if key.gpu else key.architecture
    place = f"{machine}-{key.module}-{key.module_version}"
    return bundle.path / PLANS_DIRECTORY / place / key.graph.removesuffix(".onnx").replace("/", ".")


def stored_plans(bundle: Bundle) -> dict[Path, StoredPlan | BundleError]:
    """Reads every plan of the bundle, by directory; one that cannot be read comes as the error that says why."""
    plans: dict[Path, StoredPlan | BundleError] = {}
    for record in sorted((bundle.path / PLANS_DIRECTORY).glob(f"[!.]*/[!.]*/{RECORD_NAME}")):
        try:
            plans[record.parent] = StoredPlan(record.parent, read_record(record))
        except BundleError as error:
            plans[record.parent] = error
    return plans


def look_up(bundle: Bundle, wanted: PlanKey, ignoring: Collection[str] = ()) -> LookUp:
    """Looks for the plan of a key, parts named in `ignoring` aside; else says what differs in the nearest."""
    nearest: tuple[int, str] | None = None
    for path, plan in stored_plans(bundle).items():
        if isinstance(plan, BundleError):
            if path == plan_directory(bundle, wanted):
                return LookUp(None, str(plan))
            continue
        if plan.record.key.graph != wanted.graph:
            continue
        differences = plan.record.key.differences(wanted, ignoring)
        if not differences:
            return LookUp(plan, "")
        if nearest is None or len(differences) < nearest[0]:
            nearest = len(differences), f"{_place(path)}: {join_differences(differences)}"
    return LookUp(None, nearest[1] if nearest else f"none was built from {wanted.graph}")


def read_record(file: Path) -> PlanRecord:
    """Reads a `plan.json` strictly. Raises `BundleError` with its place and the field."""
    name = f"{_place(file.parent)}/{file.name}"
    try:
        _refuse_links(file)
        with file.open("rb") as stream:
            data = stream.read(MAX_RECORD_BYTES + 1)
        if len(data) > MAX_RECORD_BYTES:
            raise BundleError(f"{name}: more than {MAX_RECORD_BYTES} bytes: {_AGAIN}")
        return PlanRecord.model_validate(strict_json(data, name))
    except ValidationError as error:
        raise BundleError(f"{name}: {explain(error)}: {_AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{name}: cannot be read: {reason_of(error)}") from None


@contextmanager
def open_plan(plan: StoredPlan) -> Iterator[memoryview]:
    """Maps the plan's bytes, after size and hash were found to be those of its record.

    Raises:
        BundleError: the plan is missing, is no regular file, or is not the one that was written.
    """
    file, expected = plan.path / PLAN_NAME, plan.record.file
    name = f"{_place(plan.path)}/{PLAN_NAME}"
    try:
        _refuse_links(file)
        stream = file.open("rb")
    except OSError as error:
        raise BundleError(f"{name}: cannot be read: {reason_of(error)}: {_AGAIN}") from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        if size != expected.size:
            raise BundleError(f"{name} has {size} bytes, {RECORD_NAME} says {expected.size}: {_AGAIN}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            digest = hashlib.sha256(content).hexdigest()
            if digest != expected.sha256:
                raise BundleError(
                    f"{name} has sha256 {digest}, {RECORD_NAME} says {expected.sha256}: {_AGAIN}"
                )
            yield content


def write_plan(bundle: Bundle, key: PlanKey, content: memoryview) -> StoredPlan:
    """Writes plan and record beside their place and renames them there, over a plan that was there before.

    Raises `OSError` that names the place.
    """
    place = plan_directory(bundle, key)
    record = PlanRecord(
        format="rankport-plan",
        format_version=1,
        key=key,
        file=PlanFile(size=content.nbytes, sha256=hashlib.sha256(content).hexdigest()),
    )
    staging = _sibling(place, "staging")
    try:
        staging.mkdir(parents=True)
        _write(staging / PLAN_NAME, content)
        text = json.dumps(record.model_dump(mode="json", exclude_defaults=True), indent=2) + "\n"
        _write(staging / RECORD_NAME, memoryview(text.encode()))
        _exchange(staging, place)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {reason_of(error)}", str(place)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return StoredPlan(place, record)


def _exchange(staging: Path, place: Path) -> None:
    old = _sibling(place, "old")
    if os.path.lexists(place):
        place.rename(old)
    staging.rename(place)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    elif os.path.lexists(old):
        old.unlink()


def _sibling(place: Path, purpose: str) -> Path:
    return place.with_name(f".{place.name}.{purpose}-{secrets.token_hex(4)}")


def _write(file: Path, content: memoryview) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _refuse_links(file: Path) -> None:
    """Raises where something is a link, also a directory above within the bundle: it could lead anywhere."""
    for part in (file.parents[2], file.parents[1], file.parent):
        if part.is_symlink():
            raise BundleError(f"{part} is a symbolic link: plans lie in the bundle itself")
    if not stat.S_ISREG(file.lstat().st_mode):
        raise BundleError(f"{_place(file.parent)}/{file.name} is no regular file")


def _place(directory: Path) -> str:
    return "/".join(directory.parts[-3:])
