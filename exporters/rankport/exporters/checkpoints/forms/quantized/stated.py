"""Fields of `quantization_config` as they are stated: words of yes and no, and names that were meant to be others.

Writers add fields of their own (how they calibrated, which kernels they like), so not every unknown name is an error:
one that is nearly a name that is read is a slip of it.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION
from rankport.protos.errors import CheckpointError

_FIELD = "quantization_config"


def stated_bool(stated: Mapping[str, Any], key: str, default: bool, where: str = _FIELD) -> bool:
    """Reads a field that is true or false; the default where it is null or not there. Raises CheckpointError."""
    value = stated.get(key)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"config.json: {where}.{key} is {value!r:.60}, must be true or false")
    return default if value is None else value


def require_known(stated: Iterable[str], known: Collection[str], where: str = _FIELD) -> None:
    """Raises CheckpointError for the first field that is not `known`."""
    unknown = next((key for key in stated if key not in known), None)
    if unknown is not None:
        raise CheckpointError(f"config.json: {where}.{unknown} is unknown: {FULL_PRECISION}")


def refuse_slips(stated: Mapping[str, Any], read: Collection[str], others: Collection[str] = ()) -> None:
    """Raises CheckpointError for a name that is nearly one that is `read`; `others` are names that are known too."""
    for key, value in stated.items():
        if key in read or key in others or value is None:
            continue
        near = difflib.get_close_matches(key, sorted(read), 1, 0.85)
        if near:
            raise CheckpointError(
                f"config.json: {_FIELD}.{key} is {value!r:.60}, and nothing reads it: is {near[0]!r} meant? Correct "
                "the name, or remove the field"
            )
