"""The plot of `benchmarks.catalogue`: items and memory over the time of its encode job, as one SVG file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankport.sdk.cli.output.report import svg

_POINTS = 200
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#66758a}.axis{fill:#1c2733}.grid{stroke:#dde3ea;fill:none}"
    ".frame{stroke:#66758a;fill:none}.of-source{stroke:#e08a1e;stroke-width:2;fill:none}"
    ".identity{stroke:#2c6fd1;stroke-width:2;fill:none}"
)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draws what `catalogue.json` has."""
    samples: Sequence[Mapping[str, float]] = report["encode"]["samples"]
    samples = [*samples[: -1 : max(1, len(samples) // _POINTS)], samples[-1]]
    seconds = np.array([sample["seconds"] for sample in samples])
    panels = [
        _panel("seconds", "items", seconds, [("of-source", _values(samples, "rows"))]),
        _panel(
            "seconds",
            "MB above the model: blue resident, orange anonymous",
            seconds,
            [
                ("of-source", _values(samples, "anonymous_mb")),
                ("identity", _values(samples, "resident_mb")),
            ],
        ),
    ]
    width = len(panels) * svg.WIDTH
    placed = (
        f"<g transform='translate({place * svg.WIDTH} 0)'>{panel}</g>" for place, panel in enumerate(panels)
    )
    path.write_text(
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {svg.HEIGHT}'>"
        f"<style>{_STYLE}</style><rect width='100%' height='100%' fill='#fff'/>{''.join(placed)}</svg>\n"
    )


def _values(samples: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([sample[name] for sample in samples], np.float64)


def _panel(across: str, up: str, places: np.ndarray, lines: Sequence[tuple[str, np.ndarray]]) -> str:
    x = svg.Scale.across(np.append(places, 0.0))
    y = svg.Scale.up(np.append(np.concatenate([values for _, values in lines]), 0.0))
    drawn = "".join(svg.line(x(places), y(values), kind) for kind, values in lines)
    middle = svg.HEIGHT // 2
    body = svg.axes(x, y) + drawn
    # HTML lets attributes stand without quotes, XML does not.
    return _quoted(body) + (
        f"<text class='axis' x='{svg.WIDTH // 2}' y='{svg.HEIGHT - 6}' text-anchor='middle'>{across}</text>"
        f"<text class='axis' transform='translate(13 {middle}) rotate(-90)' text-anchor='middle'>{up}</text>"
    )


def _quoted(body: str) -> str:
    return re.sub(r"(\s[\w-]+=)([^\s'\"<>/]+)(?=[\s/>])", r"\1'\2'", body)
