"""Bundles that are written at once."""

import os
from collections.abc import Mapping
from pathlib import Path

from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft


def write_bundle(
    out: str | os.PathLike[str],
    draft: ManifestDraft,
    files: Mapping[str, Path | bytes],
    *,
    overwrite: bool = False,
) -> Bundle:
    """Writes a whole bundle at once: `files` by their path in the bundle, as files to copy or as bytes.

    Raises:
        BundleError: the draft contradicts itself or the files; nothing is left behind.
        InvalidRequest: `out` is taken.
    """
    with BundleStaging(out, overwrite=overwrite) as staging:
        for name, content in files.items():
            staging.add(name, content)
        staging.finalize(draft)
        return staging.publish()
