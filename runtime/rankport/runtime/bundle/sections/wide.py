"""The `wide` section of a manifest: features of a query and an item that a request brings as numbers."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from rankport.protos.wording import repeated
from rankport.runtime.bundle.strict import Strict

Scaling = Literal["none", "mean-std", "min-max"]
_BOUNDS: dict[Scaling, tuple[str, ...]] = {
    "none": (),
    "mean-std": ("mean", "std"),
    "min-max": ("min", "max"),
}
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class WideFeature(Strict):
    """One feature by name: how it is scaled, and what a missing value counts as."""

    name: Annotated[str, Field(pattern=r"^\S(.{0,126}\S)?$")]
    scaling: Scaling = "none"
    mean: float | None = None  # of mean-std
    std: float | None = None
    min: float | None = None  # of min-max
    max: float | None = None
    nan: float | None = None  # what NaN counts as, before scaling; None: NaN is an error of the request

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        wanted = _BOUNDS[self.scaling]
        given = tuple(name for name in ("mean", "std", "min", "max") if getattr(self, name) is not None)
        if set(given) != set(wanted):
            raise ValueError(
                f"{self.name}: scaling {self.scaling} needs {' and '.join(wanted) or 'no bounds'}, "
                f"has {' and '.join(given) or 'none'}"
            )
        if not self.divisor >= _LEAST:
            raise ValueError(
                f"{self.name}: is scaled by {self.divisor}, which must be above 0, in float32 too"
            )
        largest = max(map(abs, (self.shift, self.divisor, self.nan or 0.0)))
        if largest > _MOST:
            raise ValueError(
                f"{self.name}: is filled and scaled by up to {largest:g}, which is beyond float32"
            )
        return self

    @property
    def shift(self) -> float:
        """Number that is subtracted first."""
        return (self.mean if self.scaling == "mean-std" else self.min) or 0.0

    @property
    def divisor(self) -> float:
        """Number that the difference is divided by."""
        if self.std is not None:
            return self.std
        return 1.0 if self.max is None or self.min is None else self.max - self.min


def repeated_name(features: "list[WideFeature] | tuple[WideFeature, ...]") -> str | None:
    """Finds a name that two features have."""
    return next(iter(repeated(feature.name for feature in features)), None)
