"""`Bundle`: a bundle directory that has been read strictly and is what its manifest says.

Owns opening and hashing. What the graphs compute, and whether the manifest's author is to be trusted, it
cannot know: see "What a reader guarantees" in docs/bundle-format.md.
"""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Self

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.protos.reasons import reason_with_file
from rankport.runtime.bundle.files import all_files, regular_files, sha256_of
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import FORMAT_NAME, FileEntry, GraphSpec, Manifest, Role, Target
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME, MAX_MANIFEST_BYTES, parse_manifest
from rankport.runtime.bundle.manifest_rules import KindRules, check_manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """Bundle that was opened. Make it with `open`; it holds no file handle."""

    path: Path  # of the directory, symbolic links resolved
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str], kinds: KindRules) -> Self:
        """Reads the manifest, checks every rule of the format and of its kind, hashes every file: seconds per few GB.

        `kinds.table.open_bundle` is this with the rules of all kinds.

        Raises:
            BundleError: a rule is broken; the message names directory and field or file.
            InvalidRequest: it is of none of `kinds`.
        """
        # Resolved once: a link such as "current" may be moved on while the graphs are being loaded.
        root = Path(os.path.realpath(path))
        try:
            str(root).encode()
        except UnicodeEncodeError:
            raise BundleError(
                f"{root}: the path is not UTF-8, which what runs graphs needs: rename it"
            ) from None
        try:
            manifest = parse_manifest(_read_manifest(root))
            check_manifest(manifest, kinds)
            _check_files(root, manifest.files)
        except (BundleError, InvalidRequest) as error:
            raise type(error)(f"{root}: {error}") from None
        except OSError as error:
            raise BundleError(f"{root}: cannot be read: {reason_with_file(error)}") from error
        return cls(path=root, manifest=manifest)

    def for_target(self, target: Target) -> Self:
        """Views the bundle as if it had one target's graphs alone."""
        return type(self)(self.path, with_own_fingerprint(self.manifest.for_target(target)))

    def for_onnxruntime(self, version: str | None) -> Self:
        """Views the bundle with one form of each graph: see `Manifest.for_onnxruntime`."""
        return type(self)(self.path, with_own_fingerprint(self.manifest.for_onnxruntime(version)))

    def graph(self, role: Role) -> GraphSpec:
        """Returns the first graph of a role. Raises `BundleError` if there is none."""
        graph = next((graph for graph in self.manifest.graphs if graph.role == role), None)
        if graph is None:
            raise BundleError(f"bundle {self.manifest.name!r} has no graph of role {role!r}")
        return graph

    def file(self, name: str) -> Path:
        """Returns where the listed file `name` is. Raises `BundleError` if the manifest does not list it."""
        if all(entry.path != name for entry in self.manifest.files):
            raise BundleError(f"{self.path}: {name!r} is not in the files of {MANIFEST_NAME}")
        return self.path / name


def is_bundle(path: Path) -> bool:
    """Says whether `path` is a bundle directory at all, broken or newer ones included: what may be replaced."""
    return _fields_of(path).get("format") == FORMAT_NAME


def unlisted_files(path: Path) -> list[str]:
    """Lists what lies in a bundle's directory, broken or newer ones included, and is not the bundle's: its owner's."""
    entries = _fields_of(path).get("files")
    known = (
        [entry.get("path") for entry in entries if isinstance(entry, dict)]
        if isinstance(entries, list)
        else []
    )
    return [name for name in all_files(path) if name not in known]


def _fields_of(path: Path) -> dict[str, Any]:
    """Reads a manifest without its rules; nothing where there is none."""
    try:
        fields = json.loads(_read_manifest(path))
    except (BundleError, OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _read_manifest(root: Path) -> bytes:
    file = root / MANIFEST_NAME
    try:
        mode = file.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"no {MANIFEST_NAME} there: not a bundle{_what_else(root)}") from None
    if not stat.S_ISREG(mode):
        raise BundleError(f"{MANIFEST_NAME} is no regular file: a bundle holds regular files only")
    with file.open("rb") as stream:
        return stream.read(MAX_MANIFEST_BYTES + 1)


def _what_else(root: Path) -> str:
    """Says what is there instead of a bundle, and what to do with it."""
    if not root.exists():
        return ", and no such directory"
    if any((root / name).is_file() for name in ("config.json", "adapter_config.json", "modules.json")):
        source, out = quote(str(root)), quote(f"{root.name}.bundle")
        return f" but a checkpoint: make a bundle of it with `rankport export {source} --out {out}`"
    return ""


def _check_files(root: Path, entries: list[FileEntry]) -> None:
    files = regular_files(root)
    for entry in entries:
        if entry.path not in files:
            raise BundleError(
                f"{entry.path!r} is listed in {MANIFEST_NAME} but missing: copy the bundle again"
            )
        size = files[entry.path].stat().st_size
        if size != entry.size:
            raise BundleError(
                f"{entry.path!r} has {size} bytes, {MANIFEST_NAME} says {entry.size}: copy it again"
            )
    unlisted = sorted(files.keys() - {entry.path for entry in entries})
    if unlisted:
        raise BundleError(f"{unlisted[0]!r} is not listed in {MANIFEST_NAME}: remove it")
    for entry in entries:
        digest = sha256_of(files[entry.path])
        if digest != entry.sha256:
            raise BundleError(
                f"{entry.path!r} has sha256 {digest}, {MANIFEST_NAME} says {entry.sha256}: copy it again"
            )
