"""Writing a bundle: staged beside its place, complete before it is renamed into it.

Owns the directory's life and the manifest's header and file list; what the graphs are, the exporter knows.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rankport.exporters.disk_refusals import disk_refusal
from rankport.exporters.graphs.staging_folder import (
    beginning,
    clear_abandoned,
    locked_by_another,
    make_locked,
    sibling,
)
from rankport.protos.errors import BundleError, InvalidRequest
from rankport.protos.reasons import reason_of
from rankport.protos.wording import counted
from rankport.runtime.bundle.bundle import Bundle, is_bundle, unlisted_files
from rankport.runtime.bundle.files import file_entry, path_problem, regular_files
from rankport.runtime.bundle.fingerprint import fingerprint
from rankport.runtime.bundle.manifest import FORMAT_VERSION, FileEntry, Manifest, ManifestDraft
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME, manifest_bytes
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.table import KINDS, open_bundle, rules_of


class BundleStaging:
    """A bundle in the making: a hidden directory beside `out`, on the same filesystem.

        with BundleStaging(out) as staging:
            ...                                  # write graphs and weights under staging.path
            bundle = staging.finalize(draft)     # now it opens and runs from staging.path
            ...                                  # measure it
            staging.finalize(measured_draft)     # the fingerprint stays: measurements are not in it
            staging.publish()

    Leaving the block without `publish` removes everything. A killed process leaves `.<out>.staging-*` behind, which the
    next staging of this place on this machine removes. What the disk refuses in the block is told of `out`.
    """

    def __init__(
        self, out: str | os.PathLike[str], *, overwrite: bool = False, kinds: Sequence[Kind] = KINDS
    ) -> None:
        """Makes the staging directory, and `out`'s parents where they are missing. The bundle is of one of `kinds`.

        Raises:
            InvalidRequest: `out` is taken: by a bundle, or another staging that lives, and `overwrite` is False; or by
                anything else, be it a file that is none of the bundle's.
            OSError: no folder can be made there; it names `out`.
        """
        self.out = Path(os.path.abspath(out))
        self._overwrite = overwrite
        self._kinds = kinds
        _check_place(self.out, overwrite)
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            clear_abandoned(self.out, "staging")
            with beginning(self.out):
                if not overwrite:
                    _require_alone(self.out)
                _check_place(self.out, overwrite)  # by now another may have ended
                self.path, lock = make_locked(self.out, "staging")
        except (FileExistsError, NotADirectoryError) as error:
            blocking = next(parent for parent in self.out.parents if parent.exists())
            raise OSError(error.errno, f"cannot be made: {blocking} is no folder", str(self.out)) from error
        except OSError as error:
            raise OSError(error.errno, f"cannot be made: {reason_of(error)}", str(self.out)) from error
        self._lock: int | None = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        refused = disk_refusal(error, self.path, self.out)
        self.discard()
        if refused is not None:
            raise refused from error

    def add(self, name: str, content: Path | bytes) -> Path:
        """Copies a file into the bundle as `name`, or writes the bytes given; returns where it lies."""
        problem = path_problem(name)
        if problem:
            raise BundleError(f"file {name!r} {problem}")
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            shutil.copyfile(content, target)
        return target

    def finalize(self, draft: ManifestDraft) -> Bundle:
        """Hashes what is staged and writes the manifest; may be called again after a change.

        Raises:
            BundleError: the draft contradicts itself or the staged files; the message names field or file.
        """
        entries = [file_entry(name, path) for name, path in regular_files(self.path).items()]
        manifest = _manifest(draft, entries)
        check_manifest(manifest, rules_of(self._kinds))
        (self.path / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
        return Bundle(path=self.path.resolve(), manifest=manifest)

    def publish(self) -> Bundle:
        """Opens the staged bundle strictly, then puts it at `out`, durably, in one rename; returns it there.

        Replacing a bundle takes two renames: a reader in between finds nothing, never a mixture.

        Raises:
            BundleError: not finalized, or changed since.
            InvalidRequest: `out` has been taken since.
        """
        manifest = open_bundle(self.path, self._kinds).manifest
        _check_place(self.out, self._overwrite)
        _sync_tree(self.path)
        if self.out.exists():
            replace_bundle(self.path, self.out)
        else:
            self.path.rename(self.out)
        _sync(self.out.parent)
        clear_abandoned(self.out, "old")
        return Bundle(path=self.out.resolve(), manifest=manifest)

    def discard(self) -> None:
        """Removes what is staged; does nothing after `publish`, or a second time."""
        if self._lock is None:
            return
        if self.path.exists():
            shutil.rmtree(self.path)
        os.close(self._lock)
        self._lock = None


def _manifest(draft: ManifestDraft, files: list[FileEntry]) -> Manifest:
    fields = {name: getattr(draft, name) for name in ManifestDraft.model_fields}
    return Manifest(
        format="rankport-bundle",
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint(draft, files),
        files=files,
        **fields,
    )


def _check_place(out: Path, overwrite: bool) -> None:
    if out.is_symlink():
        raise InvalidRequest(f"{out} is a symbolic link: give the directory it stands for, or another path")
    if not out.exists():
        return
    if not is_bundle(out):
        raise InvalidRequest(f"{out} exists and is not a bundle: it is left alone, choose another path")
    if not overwrite:
        raise InvalidRequest(
            f"{out} is a bundle already: say --overwrite (overwrite=True), or choose another path"
        )
    own = unlisted_files(out)
    if own:
        more = f" and {counted(len(own) - 1, 'other')}" if own[1:] else ""
        raise InvalidRequest(
            f"{out} holds {own[0]!r}{more} beside the bundle's own files, which --overwrite would delete: move "
            "what is yours away, or choose another path"
        )


def _require_alone(out: Path) -> None:
    other = locked_by_another(out, "staging")
    if other is not None:
        path, process = other
        by = "a process" if process is None else f"process {process}"
        raise InvalidRequest(
            f"{out}: {by} is writing a bundle there already (in {path.name} beside it): wait for its end, stop it, or "
            "choose another path; with --overwrite (overwrite=True) the one that ends last stays"
        )


def replace_bundle(staged: Path, out: Path) -> None:
    """Puts the folder `staged` in the place of `out`, which is brought back if that fails."""
    aside = sibling(out, "old")
    out.rename(aside)
    try:
        staged.rename(out)
    except BaseException:
        if not out.exists():
            aside.rename(out)
        raise
    with suppress(FileNotFoundError):  # another process that publishes here clears it too
        shutil.rmtree(aside)


def _sync_tree(root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            _sync(Path(directory, name))
        _sync(Path(directory))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
