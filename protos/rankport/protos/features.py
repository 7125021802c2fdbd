"""`FeatureColumns`: the wide features of a request's items as columns. Which a bundle takes is checked where it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_text
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Features
from rankport.protos.wording import type_told


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Values of wide features, and the names of their columns; without names in the bundle's order."""

    values: NDArray[np.float32]  # [items, features]
    names: tuple[str, ...] = ()  # [features], or none

    @classmethod
    def of(cls, features: "Features | FeatureColumns") -> "FeatureColumns":
        """Takes an array [items, features], or columns [items] by name.

        Raises InvalidRequest for another shape, columns of unequal length, or what is no number.
        """
        if isinstance(features, FeatureColumns):
            return features
        if not isinstance(features, Mapping):
            values = _numbers(features, "features")
            if values.ndim != 2:
                raise InvalidRequest(
                    f"features has shape {list(values.shape)}; give an array [items, features], or columns by name"
                )
            return cls(values)
        columns = {name: _column(name, column) for name, column in features.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidRequest(f"features have columns of unequal length: {lengths}")
        values = np.stack(list(columns.values()), axis=1) if columns else np.empty((0, 0), np.float32)
        return cls(values, tuple(columns))


def _column(name: object, column: object) -> NDArray[np.float32]:
    if not isinstance(name, str):
        raise InvalidRequest(f"features: the name {name!r:.40} is {type_told(name)}; give text")
    checked_text(name, f"features: the name {name!r:.40}")
    values = _numbers(column, f"features[{name!r}]")
    if values.ndim != 1:
        raise InvalidRequest(f"features[{name!r}] has shape {list(values.shape)}; give one number an item")
    return values


def _numbers(values: object, where: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "fiub":
            with np.errstate(
                over="ignore"
            ):  # what overflows becomes infinite, which a bundle refuses by name
                return array.astype(np.float32)
    except (TypeError, ValueError):  # ragged, or of objects that are no numbers
        pass
    raise InvalidRequest(f"{where} holds what is no number; give floats, NaN where one is missing")
