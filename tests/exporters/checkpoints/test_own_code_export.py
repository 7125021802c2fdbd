"""An export without the checkpoint's own code says so in its manifest, and verifies without being told again."""

import json
import shutil
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError


def test_code_that_was_left_out_is_recorded_and_left_out_again(
    encoder_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(encoder_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Bidirectional"}}))
    options = {"kind": "item-encoder", "pooling": "mean", "max_item_tokens": 32}
    with pytest.raises(CheckpointError, match=r"Bidirectional of own\.py"):
        export(folder, tmp_path / "b", **options)  # type: ignore[arg-type]
    bundle = export(folder, tmp_path / "b", ignore_remote_code=True, **options)  # type: ignore[arg-type]
    assert bundle.manifest.source.ignored_code == [
        "config.json: auto_map: AutoModel is Bidirectional of own.py"
    ]
    assert verify(bundle.path, folder).failures == ()
