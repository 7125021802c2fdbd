"""The wide features of a request, as the score graph takes them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.types import Features
from rankport.protos.wording import amiss, counted, listed, repeated
from rankport.runtime.bundle.sections.wide import WideFeature


def ordered_features(
    given: Features | FeatureColumns | None, wide: Sequence[WideFeature], items: int
) -> NDArray[np.float32] | None:
    """Puts the features of a request in the bundle's order; None where the bundle has none. [items, features]

    Raises InvalidRequest for one that is missing, unknown, infinite, or NaN where the bundle states no value for
    that; the message names the feature, and the item.
    """
    if given is None and not wide:
        return None
    known = ", ".join(feature.name for feature in wide)
    if given is None:
        raise InvalidRequest(
            f"features are missing: give {known}, as an array [items, {len(wide)}] or by name"
        )
    columns = FeatureColumns.of(given)
    if not wide:
        raise InvalidRequest("features: the bundle has no wide features: leave them out")
    values = _in_order(columns, wide, known)
    if len(values) != items:
        raise InvalidRequest(f"features has rows for {counted(len(values), 'item')}, the request has {items}")
    _check_values(values, wide)
    return values


def _in_order(columns: FeatureColumns, wide: Sequence[WideFeature], known: str) -> NDArray[np.float32]:
    if not columns.names:
        if columns.values.shape[1] != len(wide):
            raise InvalidRequest(
                f"features has {counted(columns.values.shape[1], 'column')}, the bundle has {len(wide)}: {known}"
            )
        return columns.values
    names = [feature.name for feature in wide]
    unknown = [name for name in columns.names if name not in names]
    missing = [name for name in names if name not in columns.names]
    if unknown or missing or len(columns.names) != len(names):
        wrong = amiss(missing, unknown) or f"given twice: {listed(repeated(columns.names))}"
        raise InvalidRequest(f"features {wrong}: the bundle has {known}, once each")
    return columns.values[:, [columns.names.index(name) for name in names]]


def _check_values(values: NDArray[np.float32], wide: Sequence[WideFeature]) -> None:
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        item, column = infinite[0].tolist()
        raise InvalidRequest(
            f"features[{wide[column].name!r}] of item {item} is infinite: must be a number, or NaN"
        )
    strict = np.array([feature.nan is None for feature in wide])
    absent = np.argwhere(np.isnan(values) & strict)
    if len(absent):
        item, column = absent[0].tolist()
        raise InvalidRequest(
            f"features[{wide[column].name!r}] of item {item} is NaN, and the bundle states no value that counts then: "
            "give a number"
        )
