"""Checkpoints of rankers of sets: config.json of `SetRankerConfig`, the tensors of its module by name, and ids of rows.

A file `ids.TABLE.npy` has the id of each row of a table that was trained by number, from the first row on.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.set_ranker.config import MODEL_TYPE, SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.files.arrays import UNREADABLE
from rankport.protos.reasons import array_reason

IDS_FILES: Final = "ids.*.npy"


def matches(folder: CheckpointFolder) -> bool:
    """Takes what says that it is a ranker of sets."""
    return folder.raw.get("model_type") == MODEL_TYPE


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the field or tensor at fault."""
    if head != "sets":
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} is a ranker of sets, which reads features, no text: export it with "
            "--kind set-ranker"
        )
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} of a ranker of sets is not supported: export it "
            "in full precision"
        )
    config = SetRankerConfig.read(folder.raw, folder.path / "config.json")
    model = SetRankerModel(config).eval().requires_grad_(False)
    fill(model, folder, head)
    for name, table in config.sets.tables.items():
        if table.lookup == "keys":
            model.keys_of(name).check(name, table.rows)
    files = {
        file.name.split(".", 1)[1].removesuffix(".npy"): file for file in sorted(folder.path.glob(IDS_FILES))
    }
    if not files:
        return LoadedModel(model)
    notes = tuple(f"ids of table {name!r} are those of {file.name}" for name, file in files.items())
    return LoadedModel(_with_ids(model, files), notes=notes)


def _with_ids(model: SetRankerModel, files: dict[str, Path]) -> SetRankerModel:
    """Has rows looked up by the ids in files, by table. Raises CheckpointError for ids that do not fit."""
    tables = model.config.sets.tables
    for name, file in files.items():
        if name in tables and tables[name].lookup != "direct":
            raise CheckpointError(
                f"{file}: the config looks ids of table {name!r} up by {tables[name].lookup}: move the file away, or "
                "say direct"
            )
    try:
        return model.with_ids({name: _ids(file) for name, file in files.items()}).requires_grad_(False)
    except InvalidRequest as error:
        raise CheckpointError(f"{next(iter(files.values())).parent}: {error}") from None


def _ids(file: Path) -> NDArray[np.generic]:
    try:
        ids: NDArray[np.generic] = np.load(file, allow_pickle=False)
    except UNREADABLE as error:
        raise CheckpointError(f"{file} cannot be read as .npy: {array_reason(error)}") from None
    return ids
