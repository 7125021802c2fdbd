"""A folder that others can read: the checkpoint's own, or of a published layout a copy in transformers' words."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rankport.exporters.checkpoints.checkpoint import Checkpoint, WantedHead, load_checkpoint
from rankport.exporters.checkpoints.published.jina import MODULE
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    MODULES_FILE,
    module_folders,
    transformer_folder,
)
from rankport.exporters.checkpoints.sentence_transformers.pair_head import scores_pairs

_SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
"""Files beside a model that are no weights and no code."""


@contextmanager
def readable_folder(source: Checkpoint) -> Iterator[Path]:
    """Gives the folder while open. A copy has the model as it is before any quantization, in fp32."""
    if source.library_reads:
        yield source.path
        return
    with TemporaryDirectory(prefix="rankport-") as place:
        copy, inner = Path(place), transformer_folder(source.path)
        for folder in module_folders(source.path):
            to = copy / folder.relative_to(source.path)
            to.mkdir(parents=True, exist_ok=True)
            patterns = _SETTINGS if folder in (source.path, inner) else ("*",)
            for file in (file for pattern in patterns for file in folder.glob(pattern) if file.is_file()):
                shutil.copyfile(file, to / file.name)
        _state_modules(copy / MODULES_FILE)
        _save_model(source, copy / inner.relative_to(source.path))
        yield copy


def _save_model(source: Checkpoint, folder: Path) -> None:
    """Loads the model anew, which a quantization may have changed in place, and saves it."""
    bare = source.head == "none" or scores_pairs(source.path)
    head: WantedHead = "none" if bare else "own"
    model = load_checkpoint(source.path, head=head, ignore_remote_code=True, task=source.task).model
    model.save_pretrained(folder)  # type: ignore[operator]


def _state_modules(file: Path) -> None:
    """Names the library's own Transformer in the place of a layout's."""
    if not file.is_file():
        return
    entries = json.loads(file.read_text(encoding="utf-8"))
    for entry in entries:
        if entry["type"] == MODULE:
            entry["type"] = "sentence_transformers.models.Transformer"
            entry.pop("kwargs", None)
    file.write_text(json.dumps(entries), encoding="utf-8")
