"""Bundles that several tests need: exported once a run, whatever worker or module asks first."""

from pathlib import Path
from typing import Any

from rankport.exporters.export import export
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from support.sharing.content import content_hash
from support.sharing.once import made_once


class Exports:
    """Exports checkpoints; equal checkpoints and options share one bundle, which no test changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, checkpoint: Path, *, name: str = "shared", **options: Any) -> Bundle:
        """Gives the bundle that `export` makes of these."""
        contents = {option: _content(value) for option, value in options.items()}
        place = self._folder / content_hash(_content(checkpoint), name, contents)
        return open_bundle(made_once(place, lambda out: export(checkpoint, out, name=name, **options)))


def _content(value: object) -> object:
    if not isinstance(value, Path):
        return value
    files = sorted(path for path in value.rglob("*") if path.is_file()) if value.is_dir() else [value]
    return [(str(file.relative_to(value)), file.read_bytes()) for file in files]
