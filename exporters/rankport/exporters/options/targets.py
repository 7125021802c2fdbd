"""Words of `--target` of an export: whom the graphs are made for, and which plans are built into the bundle.

Owns the words and how commas bind them. What a plan's target may be is `tensorrt.build`'s, as in
`rankport build`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.tensorrt.build import BuildTarget
from rankport.runtime.bundle.manifest import Target

_PLANS = "tensorrt-rtx"  # graphs for tensorrt, and plans; the word `tensorrt` is graphs alone
_ARCHITECTURE = re.compile(r"sm[0-9]+")


@dataclass(frozen=True, slots=True)
class ExportTargets:
    """Graphs, one set a target, the first of which the bundle follows; and plans, built from them."""

    graphs: tuple[Target, ...]
    plans: tuple[BuildTarget, ...] = ()

    @classmethod
    def parse(cls, named: str | Sequence[str]) -> "ExportTargets":
        """Reads `onnx-cpu,tensorrt-rtx:sm86,sm89`, as one text or in parts: a comma also joins architectures.

        Raises `InvalidRequest` for a word that is no target, or one given twice.
        """
        words = _joined((named if isinstance(named, str) else ",".join(named)).split(","))
        names = [word.partition(":")[0] for word in words]
        if len(set(names)) < len(names):
            raise InvalidRequest(f"--target names a target twice: {', '.join(words)}")
        plans = [BuildTarget.parse(word) for word in words if _has_plans(word)]
        graphs = [_graphs(word) for word in words]
        return cls(tuple(dict.fromkeys(graphs)), tuple(plans))


def _joined(words: Sequence[str]) -> list[str]:
    """Joins architectures with the `tensorrt-rtx:` that they follow."""
    joined: list[str] = []
    for word in map(str.strip, words):
        if joined and joined[-1].startswith(f"{_PLANS}:") and _ARCHITECTURE.fullmatch(word):
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    return joined


def _has_plans(word: str) -> bool:
    """Tells whether plans are built; `tensorrt:…` has none, and `BuildTarget` says why."""
    return word == _PLANS or word.startswith((f"{_PLANS}:", "tensorrt:"))


def _graphs(word: str) -> Target:
    if _has_plans(word):
        return "tensorrt"
    if _ARCHITECTURE.fullmatch(word):
        raise InvalidRequest(f"--target has {word!r} alone: write {_PLANS}:{word}")
    if word not in get_args(Target):
        known = ", ".join((*get_args(Target), _PLANS))
        raise InvalidRequest(f"--target is {word!r}: use one of {known}")
    return cast(Target, word)
