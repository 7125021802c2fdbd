"""Engines of a bundle: `engines/<gpu or architecture>-<module>-<version>/<graph>/`, a plan and the `engine.json` of it.

Owns where they lie, how they are written and read, and which one serves. It builds none: that is `build`'s.
A bundle is complete without engines, and `Bundle.open` does not look at them.
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
from rankport.runtime.backends.tensorrt.plan_key import EngineKey, in_words
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.files import ENGINES_DIRECTORY
from rankport.runtime.bundle.graph_files import external_files
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.bundle.strict import Sha256, Strict
from rankport.runtime.bundle.strict_json import strict_json

RECORD_NAME = "engine.json"
PLAN_NAME = "engine.plan"
MAX_RECORD_BYTES = 1024 * 1024

_AGAIN = "build it again: rankport build --force"


class PlanFile(Strict):
    """The plan as it was written."""

    size: Annotated[int, Field(gt=0)]
    sha256: Sha256


class EngineRecord(Strict):
    """The whole of `engine.json`."""

    format: Literal["rankport-engine"]
    format_version: Literal[1]
    key: EngineKey
    plan: PlanFile


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of a bundle, by its record; the plan itself is checked when it is opened."""

    path: Path  # of its directory
    record: EngineRecord


@dataclass(frozen=True, slots=True)
class LookUp:
    """The engine that fits, or in words why none does."""

    engine: Engine | None
    reason: str


def graph_hashes(bundle: Bundle, graph: str) -> tuple[str, dict[str, str]]:
    """SHA-256 of a graph of the bundle, and of the files of its external tensors by name."""
    listed = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    return listed[graph], {name: listed[name] for name in sorted(external_files(bundle, graph))}


def engine_directory(bundle: Bundle, key: EngineKey) -> Path:
    """Where the engine of a key lies. Other profiles or options take the same place."""
    machine = re.sub(r"[^a-z0-9]+", "-", key.gpu.lower()).strip("-") if key.gpu else key.architecture
    place = f"{machine}-{key.module}-{key.module_version}"
    return bundle.path / ENGINES_DIRECTORY / place / key.graph.removesuffix(".onnx").replace("/", ".")


def engines_of(bundle: Bundle) -> dict[Path, Engine | BundleError]:
    """Every engine of the bundle by its directory; one that cannot be read comes as the error that says why."""
    found: dict[Path, Engine | BundleError] = {}
    for record in sorted((bundle.path / ENGINES_DIRECTORY).glob(f"[!.]*/[!.]*/{RECORD_NAME}")):
        try:
            found[record.parent] = Engine(record.parent, read_record(record))
        except BundleError as error:
            found[record.parent] = error
    return found


def look_up(bundle: Bundle, wanted: EngineKey, ignoring: Collection[str] = ()) -> LookUp:
    """The engine of a key, parts named in `ignoring` aside; else what differs in the one that comes nearest."""
    nearest: tuple[int, str] | None = None
    for path, engine in engines_of(bundle).items():
        if isinstance(engine, BundleError):
            if path == engine_directory(bundle, wanted):
                return LookUp(None, str(engine))
            continue
        if engine.record.key.graph != wanted.graph:
            continue
        differences = engine.record.key.differences(wanted, ignoring)
        if not differences:
            return LookUp(engine, "")
        if nearest is None or len(differences) < nearest[0]:
            nearest = len(differences), f"{_place(path)}: {in_words(differences)}"
    return LookUp(None, nearest[1] if nearest else f"none was built from {wanted.graph}")


def read_record(file: Path) -> EngineRecord:
    """A strictly read `engine.json`. Raises `BundleError` with its place and the field."""
    name = f"{_place(file.parent)}/{file.name}"
    try:
        _refuse_links(file)
        with file.open("rb") as stream:
            data = stream.read(MAX_RECORD_BYTES + 1)
        if len(data) > MAX_RECORD_BYTES:
            raise BundleError(f"{name}: more than {MAX_RECORD_BYTES} bytes: {_AGAIN}")
        return EngineRecord.model_validate(strict_json(data, name))
    except ValidationError as error:
        raise BundleError(f"{name}: {explain(error)}: {_AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{name}: cannot be read: {error.strerror or error}") from None


@contextmanager
def open_plan(engine: Engine) -> Iterator[memoryview]:
    """The plan's bytes, mapped, after size and hash were found to be those of its record.

    Raises:
        BundleError: the plan is missing, is no regular file, or is not the one that was written.
    """
    file, expected = engine.path / PLAN_NAME, engine.record.plan
    name = f"{_place(engine.path)}/{PLAN_NAME}"
    try:
        _refuse_links(file)
        stream = file.open("rb")
    except OSError as error:
        raise BundleError(f"{name}: cannot be read: {error.strerror or error}: {_AGAIN}") from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        if size != expected.size:
            raise BundleError(f"{name} has {size} bytes, {RECORD_NAME} says {expected.size}: {_AGAIN}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as plan:
            digest = hashlib.sha256(plan).hexdigest()
            if digest != expected.sha256:
                raise BundleError(
                    f"{name} has sha256 {digest}, {RECORD_NAME} says {expected.sha256}: {_AGAIN}"
                )
            yield plan


def write_engine(bundle: Bundle, key: EngineKey, plan: memoryview) -> Engine:
    """Writes plan and record beside their place and renames them there, over an engine that was there before."""
    place = engine_directory(bundle, key)
    record = EngineRecord(
        format="rankport-engine",
        format_version=1,
        key=key,
        plan=PlanFile(size=plan.nbytes, sha256=hashlib.sha256(plan).hexdigest()),
    )
    staging = _sibling(place, "staging")
    staging.mkdir(parents=True)
    try:
        _write(staging / PLAN_NAME, plan)
        text = json.dumps(record.model_dump(mode="json", exclude_defaults=True), indent=2) + "\n"
        _write(staging / RECORD_NAME, memoryview(text.encode()))
        _exchange(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Engine(place, record)


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
    """Engines are read where they lie: a link, also of a directory above within the bundle, could lead anywhere."""
    for part in (file.parents[2], file.parents[1], file.parent):
        if part.is_symlink():
            raise BundleError(f"{part} is a symbolic link: engines lie in the bundle itself")
    if not stat.S_ISREG(file.lstat().st_mode):
        raise BundleError(f"{_place(file.parent)}/{file.name} is no regular file")


def _place(directory: Path) -> str:
    return "/".join(directory.parts[-3:])
