"""Optimization profiles: the ranges of shapes that a plan is tuned for, derived from a bundle's axes.

Pure functions over a graph's inputs; nothing here knows TensorRT. A profile is a box: every axis has its own range, and
memory is planned for the largest corner. Passes lie under a hyperbola (items x tokens <= budget), so several boxes
cover it: short items in number, long ones a few at a time.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rankport.protos.errors import BackendError
from rankport.runtime.backends.layouts.packed import axes_of, rounded_packed
from rankport.runtime.backends.layouts.sizes import PassSizes
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.bundle.manifest import AxisRange, Role, TensorSpec
from rankport.runtime.bundle.strict import Strict

VALUE_INPUTS = frozenset({"kv_slots"})
"""Inputs whose values, not only their shape, decide the shape of something."""

Shape = tuple[int, ...]

_FIRST = 8  # tokens of an item in the first box: embedding tokens, and a word or two
_STEP = 8  # from one box to the next; also how far a corner may exceed the budget of slots


class SizeRange(Strict):
    """Smallest, usual and largest size of an axis."""

    min: Annotated[int, Field(ge=0)]
    opt: Annotated[int, Field(ge=0)]
    max: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"must rise from min to max, is {self.min}, {self.opt}, {self.max}")
        return self


class Profile(Strict):
    """Ranges of a graph's axes, and of the inputs whose values decide shapes."""

    name: str
    axes: dict[str, SizeRange]
    values: dict[str, SizeRange]  # of inputs in VALUE_INPUTS

    def misfit(self, sizes: Mapping[str, int]) -> str | None:
        """Names the first of these sizes (of axes and values) that lies outside; None if the profile takes them all."""
        ranges = self.axes | self.values
        for name, size in sizes.items():
            if name in ranges and not ranges[name].min <= size <= ranges[name].max:
                return f"{name} {size} not in {ranges[name].min} to {ranges[name].max}"
        return None

    def shapes(self, spec: TensorSpec) -> tuple[Shape, Shape, Shape]:
        """Returns the smallest, usual and largest shape of an input."""
        ranges = [_fixed(size) if isinstance(size, int) else self.axes[size] for size in spec.shape]
        return (
            tuple(size.min for size in ranges),
            tuple(size.opt for size in ranges),
            tuple(size.max for size in ranges),
        )


def profiles_for(
    inputs: Sequence[TensorSpec],
    roles: Collection[Role],
    axes: Mapping[str, AxisRange],
    limits: ProfileLimits | None = None,
) -> tuple[Profile, ...]:
    """Makes the profiles of one graph, the smaller first: `latency-…` of one request, `throughput-…` of many.

    Every pass over one prefix within the limits fits a latency profile, rounded up as a device pads it. Passes over
    several fit a throughput profile if items are short and much the same in number, or one a prefix where the graph
    prefills: others go in parts (`in_parts`).
    """
    limits = limits or ProfileLimits()
    names = {size for spec in inputs for size in spec.shape if isinstance(size, str)}
    longest = axes["item_tokens"].max if "item_tokens" in axes else 1
    past = axes["past"].max if "past" in axes else 0
    tokens = max(limits.max_batch_tokens, longest)
    profiles = []
    for box in _boxes(_takes_texts(names), roles, longest, limits):
        largest, usual = _axis_sizes(box, tokens, past), _axis_sizes(box.half(), tokens, past // 2)
        profiles.append(
            Profile(
                name=box.name,
                axes={
                    name: _range(
                        axes[name].min, usual.get(name), largest.get(name, min(tokens, axes[name].max))
                    )
                    for name in sorted(names)
                },
                values={
                    spec.name: SizeRange(min=0, opt=usual["slots"], max=largest["slots"])
                    for spec in inputs
                    if spec.name in VALUE_INPUTS
                },
            )
        )
    return tuple(profiles)


def sizes_of(inputs: Sequence[TensorSpec], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Reads the size of every axis off the shapes of a pass. Raises `BackendError` where they contradict the graph."""
    sizes: dict[str, int] = {}
    for spec in inputs:
        shape = shapes[spec.name]
        if len(shape) != len(spec.shape):
            raise BackendError(f"{spec.name} has shape {list(shape)}, the graph takes {spec.shape}")
        for axis, size in zip(spec.shape, shape, strict=True):
            known = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
            if known != size:
                raise BackendError(
                    f"{spec.name} has shape {list(shape)}: {axis} is {known} by the graph or its other inputs"
                )
    return sizes


def choose(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> int:
    """Chooses the first profile that takes a pass of these sizes. Raises `BackendError` with every profile's reason."""
    reasons = []
    for index, profile in enumerate(profiles):
        misfit = profile.misfit(sizes)
        if misfit is None:
            return index
        reasons.append(f"{profile.name}: {misfit}")
    raise BackendError(
        f"no profile of the plan takes this pass ({'; '.join(reasons)}): "
        "make passes smaller, or build the plan for larger ones"
    )


@dataclass(frozen=True, slots=True)
class _Box:
    """Largest layout of a pass: [prefixes, items, item_tokens]."""

    kind: Literal["latency", "throughput"]
    prefixes: int
    items: int
    item_tokens: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.items}x{self.item_tokens}"

    def holds(self, other: "_Box") -> bool:
        mine, others = (
            (self.prefixes, self.items, self.item_tokens),
            (other.prefixes, other.items, other.item_tokens),
        )
        return all(size <= most for size, most in zip(others, mine, strict=True))

    def half(self) -> "_Box":
        halves = (max(1, size // 2) for size in (self.prefixes, self.items, self.item_tokens))
        return _Box(self.kind, *halves)


def _takes_texts(axes: Collection[str]) -> bool:
    """Says whether a graph takes texts beside each other, whatever its role: none continues a prefix."""
    return set(axes) == {"items", "item_tokens"}


def _boxes(texts: bool, roles: Collection[Role], longest: int, limits: ProfileLimits) -> list[_Box]:
    """Leaves out boxes that an earlier one holds: each profile costs time to build and space."""
    boxes: list[_Box] = []
    for box in _all_boxes(texts, roles, longest, limits):
        if not any(earlier.holds(box) for earlier in boxes):
            boxes.append(box)
    return boxes


def _all_boxes(texts: bool, roles: Collection[Role], longest: int, limits: ProfileLimits) -> list[_Box]:
    tokens = max(limits.max_batch_tokens, longest)
    slots = int(tokens * limits.max_padding_ratio)
    prefixes = limits.max_prefixes
    one_run = _Box("latency", 1, 1, longest)
    run_each = _Box("throughput", prefixes, 1, min(longest, max(1, _STEP * slots // prefixes)))
    ladder = _ladder(longest, tokens, slots)
    if texts:
        return [one_run, *(_Box("throughput", 1, items, length) for items, length in ladder)]
    if set(roles) == {"prefix"}:  # one run a prefix
        return [one_run, run_each]
    boxes = [_Box("latency", 1, items, length) for items, length in ladder]
    # Long items of one prefix fill a pass by themselves.
    boxes += [_Box("throughput", prefixes, max(1, items // prefixes), length) for items, length in ladder[:2]]
    return [*boxes, run_each] if "prefix" in roles else boxes


def _ladder(longest: int, tokens: int, slots: int) -> list[tuple[int, int]]:
    """Returns ever longer and fewer items; whatever has `slots` slots or fewer and an item for a token fits a step."""
    first = min(longest, _FIRST)
    count = math.ceil(math.log(longest / first, _STEP)) if longest > first else 0
    lengths = [
        _padded_length(round(first * (longest / first) ** (step / max(count, 1))))
        for step in range(count + 1)
    ]
    # A longer item than the step before has, so there are fewer of them.
    items = [tokens, *(min(tokens, max(1, slots // (length + 1))) for length in lengths)]
    return list(zip(items, lengths, strict=False))


def _padded_length(item_tokens: int) -> int:
    return rounded_packed(PassSizes(1, 1, item_tokens, 0, 1, 1, 1)).row_tokens


def _axis_sizes(box: _Box, tokens: int, past: int) -> dict[str, int]:
    """Sizes each axis whose meaning is known, as a device pads it: full, or as full as `tokens` allow."""
    packed = min(tokens, box.prefixes * box.items * box.item_tokens)
    sizes = rounded_packed(
        PassSizes(
            prefixes=box.prefixes,
            rows=box.items,
            row_tokens=box.item_tokens,
            past=past,
            tokens=packed,
            items_total=min(packed, box.prefixes * box.items),
            embedding_count=packed,
        )
    )
    return axes_of(sizes) | {"slots": sizes.rows * sizes.row_tokens}


def _range(least: int, usual: int | None, most: int) -> SizeRange:
    most = max(least, most)
    return SizeRange(min=least, opt=min(most, max(least, most // 2 if usual is None else usual)), max=most)


def _fixed(size: int) -> SizeRange:
    return SizeRange(min=size, opt=size, max=size)
