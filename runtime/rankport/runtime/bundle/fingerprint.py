"""Fingerprint of a bundle: a hash of everything that can change what it answers.

Owns the definition; docs/bundle-format.md states it in prose. Two bundles with one fingerprint answer alike,
so token stores, pairings and replies name bundles by it.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import FileEntry, Manifest, ManifestDraft

REPORTS_DIRECTORY = "reports/"

_CHANGES_NO_OUTPUT = {
    "name",
    "version",
    "source",
    "queries",
    "tokenization",
    "parity",
    "quality",
    "drift",
    "target_parity",
    "agreement",
}
_OUTSIDE_THE_DRAFT = {"format", "format_version", "fingerprint", "files"}
_COUNTS = {"quantization": {"calibration": {"cut", "passed_over"}}}  # of a file that is known by its hash


def fingerprint(draft: ManifestDraft, files: Iterable[FileEntry]) -> str:
    """Hashes to lowercase hex SHA-256, over canonical JSON of the draft's output-changing fields and the files' hashes.

    Left out: name, version, source, queries, the measurements (tokenization, parity, quality, drift, target_parity,
    agreement), what is counted of a calibration's file, files under `reports/`.
    A whole `Manifest` gives the same value as the draft it was made from.
    """
    left_out: dict[str, Any] = dict.fromkeys(_CHANGES_NO_OUTPUT | _OUTSIDE_THE_DRAFT, True) | _COUNTS
    fields = draft.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    hashes = {entry.path: entry.sha256 for entry in files if not entry.path.startswith(REPORTS_DIRECTORY)}
    canonical = json.dumps(fields | {"files": hashes}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def side_fingerprint(fingerprint: str, side: Side) -> str:
    """Names the namespace of what one side of two towers makes: of items it is the bundle's own fingerprint."""
    return fingerprint if side == "item" else hashlib.sha256(f"{fingerprint}:{side}".encode()).hexdigest()


def with_own_fingerprint(manifest: Manifest) -> Manifest:
    """States a changed manifest's own fingerprint: of a view or a twin that is loaded as a bundle is."""
    return manifest.model_copy(update={"fingerprint": fingerprint(manifest, manifest.files)})
