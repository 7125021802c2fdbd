"""Plots as inline SVG: axes, points, bars, lines. Knows no proof."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WIDTH, HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 46
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers to places along one side of a plot."""

    low: float
    high: float
    start: float  # place of `low`
    stop: float  # place of `high`

    @classmethod
    def across(cls, values: Values) -> "Scale":
        """Spans the width of a plot."""
        return cls(*_padded(values), _LEFT, WIDTH - _RIGHT)

    @classmethod
    def up(cls, values: Values) -> "Scale":
        """Spans the height of a plot."""
        return cls(*_padded(values), HEIGHT - _BOTTOM, _TOP)

    def __call__(self, values: Values | float) -> Values:
        share = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the range, about five."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * size for size in (1, 2, 2.5, 5, 10) if power * size >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [step * index for index in range(first, last + 1)]


def figure(title: str, note: str, x: str, y: str, body: Sequence[str]) -> str:
    """Wraps the parts of one plot; `note` is its caption, `x` and `y` name its axes."""
    across, up = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    return (
        f"<figure><figcaption><b>{html.escape(title)}</b><br>{html.escape(note)}</figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{html.escape(title, quote=True)}'>{''.join(body)}"
        f"<text class=axis x={across:.0f} y={HEIGHT - 6} text-anchor=middle>{html.escape(x)}</text>"
        f"<text class=axis transform='translate(13 {up:.0f}) rotate(-90)' text-anchor=middle>{html.escape(y)}</text>"
        "</svg></figure>"
    )


def axes(x: Scale, y: Scale, x_names: Sequence[tuple[float, str]] | None = None) -> str:
    """Draws grid lines with their numbers; `x_names` are places and names in their stead."""
    named = [(tick, f"{tick:.10g}") for tick in x.ticks] if x_names is None else x_names
    parts = []
    for tick in y.ticks:
        place = float(y(tick))
        parts.append(
            f"<path class=grid d='M{_LEFT} {place:.1f}H{WIDTH - _RIGHT}'/>"
            f"<text x={_LEFT - 6} y={place + 4:.1f} text-anchor=end>{tick:.10g}</text>"
        )
    for tick, name in named:
        place = float(x(tick))
        parts.append(
            f"<text x={place:.1f} y={HEIGHT - _BOTTOM + 16} text-anchor=middle>{html.escape(name)}</text>"
        )
    return "".join(parts) + f"<path class=frame d='M{_LEFT} {_TOP}V{HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}'/>"


def points(x: Values, y: Values, kind: str = "dots") -> str:
    """Draws a dot at each place: round caps of lines without length, one path for all."""
    places = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return f"<path class={kind} d='{places}'/>"


def line(x: Values, y: Values, kind: str) -> str:
    """Draws a line through all places."""
    places = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return f"<path class={kind} d='M{places}'/>"


def bars(x: Scale, y: Scale, counts: Sequence[int]) -> str:
    """Draws a bar for each count, the first from 0 to 1 of the scale."""
    parts = []
    for index, count in enumerate(counts):
        left, right = float(x(float(index))), float(x(index + 1.0))
        top, foot = float(y(float(count))), float(y(0.0))
        if count:
            parts.append(
                f"<rect class=bar-of x={left + 1:.1f} y={top:.1f} width={right - left - 2:.1f} height={foot - top:.1f}>"
                f"<title>{count}</title></rect>"
            )
    return "".join(parts)


def upright(place: float, label: str) -> str:
    """Draws a line from foot to top with its name beside it."""
    anchor, step = ("end", -5) if place > WIDTH / 2 else ("start", 5)
    return (
        f"<path class=limit d='M{place:.1f} {_TOP}V{HEIGHT - _BOTTOM}'/>"
        f"<text class=limit-name x={place + step:.1f} y={_TOP + 12} text-anchor={anchor}>{html.escape(label)}</text>"
    )


def _padded(values: Values) -> tuple[float, float]:
    """Gives a range a little wider than the values; never empty."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = (high - low) * 0.04 or max(abs(low), 1.0) * 0.1
    return low - room, high + room
