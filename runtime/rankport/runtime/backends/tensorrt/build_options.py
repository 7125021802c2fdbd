"""Choices of the builder that change a plan. Imports little, so that the command line can show them."""

from dataclasses import dataclass, field, fields
from typing import cast

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.options import check_ranges


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Choices of the builder that change a plan. Raises `InvalidRequest` for a value that is none."""

    strip_weights: bool = field(
        default=False,
        metadata=flag(
            "Leave weights out: they come from the bundle's own file at load. Needs a GPU.",
            name="--strip-weights",
        ),
    )
    hardware_compatible: bool = field(
        default=False,
        metadata=flag(
            "tensorrt: one plan for every GPU from Ampere on, at some loss of speed.",
            name="--hardware-compatible",
        ),
    )
    # 10 bits of mantissa.
    tf32: bool = field(
        default=False,
        metadata=flag("Let float32 products round their inputs to TF32: faster, less exact.", name="--tf32"),
    )
    optimization_level: int | None = field(
        default=None,
        metadata=flag("tensorrt: effort of the builder, 0 to 5. [default: its own]", least=0, most=5),
    )

    def __post_init__(self) -> None:
        check_ranges(self)


def read_build_options(value: object) -> object:
    """Makes `BuildOptions` of a JSON object; leaves anything else. Raises `InvalidRequest` for an unknown key."""
    if not isinstance(value, dict):
        return value
    known = {described.name for described in fields(BuildOptions)}
    for name in value:
        if name not in known:
            raise InvalidRequest(f"{name}: unknown key")
    return BuildOptions(**cast(dict[str, bool], value))
