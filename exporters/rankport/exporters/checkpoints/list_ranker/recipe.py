"""`list_ranker.toml`: how a plain decoder ranks lists, said by its owner in a file beside config.json.

Holds the fields of `ListRankerConfig` but for the body, which is config.json, and weights stay as they were published.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rankport.exporters.checkpoints.list_ranker.config import ARCHITECTURE, MODEL_TYPE
from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of

FILE: Final = "list_ranker.toml"
_OF_CONFIG = ("body", "model_type", "architectures")


def with_recipe(folder: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Makes the config of a list ranker of a decoder's, and a note, where the file is there; otherwise changes nothing.

    Raises CheckpointError for a file that is no TOML, or has a field that config.json says.
    """
    file = folder / FILE
    if not file.is_file():
        return raw, ()
    fields = _read(file)
    own = next((name for name in _OF_CONFIG if name in fields), None)
    if own is not None:
        raise CheckpointError(f"{file}: {own}: is what config.json says: leave it out")
    if raw.get("model_type") == MODEL_TYPE:
        raise CheckpointError(
            f"{file}: config.json is a list ranker's, which says all of it: remove the file"
        )
    body = {name: value for name, value in raw.items() if name != "architectures"}
    config = {"model_type": MODEL_TYPE, "architectures": [ARCHITECTURE], "body": body, **fields}
    return config, (f"{FILE} says how it ranks lists: prompt, read-out and sizes are the owner's word",)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(f"{file}: not a readable TOML file: {reason_of(error)}") from error
