"""Parts of the session on a GPU in the order of their worth, and which of them are still to be run.

A part has a budget of its own and a floor below which it is not begun. What it leaves in the scratch folder for others
is made again where that folder is another machine's.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
"""Parts of a report by name."""
FORMS = ("fp16", "bf16")
"""Forms of the measured rankers on CUDA; `plans` is the one that TensorRT takes."""
PLANS = "plans"
_REHEARSED = 5
_IN_BF16 = ("peers", "compiled_peers")  # others that name no form, encoders among them, compute in fp16
_FOLDERS = {
    "texts": ("encoding", "encode_job", "text_kinds", "lists"),
    "sets": ("set_ranking", "set_peers"),
    "checks": ("self_test", "conformance", "reference", "parity"),
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A part, and the seconds that it is worth beginning with and may take at most."""

    module: str
    model: str
    least_s: float
    most_s: float
    form: str = ""  # of the bundle that it loads; "" where it loads none

    @property
    def name(self) -> str:
        """In the report."""
        return " ".join(filter(None, (self.module, self.model, self.form)))

    @property
    def path(self) -> str:
        """Dotted, of the module that runs it."""
        folders = (f"{folder}." for folder, modules in _FOLDERS.items() if self.module in modules)
        return f"benchmarks.gpu.{next(folders, '')}{self.module}"

    @property
    def ceiling(self) -> str:
        """Figure of `ceilings` that its share is of: the product in what it computes in."""
        in_bf16 = self.form == "bf16" or self.module in _IN_BF16
        return f"{'bf16' if in_bf16 else 'fp16'}_product_tflops"

    @property
    def makes(self) -> str:
        """Returns what it leaves in the scratch folder for others; "" for nothing."""
        if self.module == "restore":
            return f"{self.model}.{self.form}.bundle/manifest.json"
        if self.module == "build_plans":
            return f"{self.model}.{self.form}.bundle/plans"
        return f"{self.model}.expected.npz" if self.module == "reference" else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the parts whose leavings it takes."""
        bundle = [f"restore {self.model} {self.form}"] if self.form and self.module != "restore" else []
        plans = [f"build_plans {self.model} {PLANS}"] if self.form == PLANS and bundle else []
        expected = [f"reference {self.model}"] if self.module == "parity" else []
        own = {self.name}
        return tuple(name for name in (*bundle, *plans, *expected) if name not in own)


PLAN = (
    Planned("ceilings", "mixlm", 10, 45),
    Planned("self_test", "mixlm", 10, 60),
    Planned("restore", "mixlm", 10, 60, "fp16"),
    Planned("in_process", "mixlm", 30, 90, "fp16"),
    Planned("fresh", "mixlm", 20, 45, "fp16"),
    Planned("served", "mixlm", 30, 110, "fp16"),
    Planned("served_fronts", "mixlm", 25, 60, "fp16"),
    # What explains a share of the ceiling: each kernel of a pass, and what could stand in its place.
    Planned("kernels", "mixlm", 12, 30, "fp16"),
    Planned("restore", "slm", 10, 60, "fp16"),
    Planned("in_process", "slm", 20, 40, "fp16"),
    Planned("kernels", "slm", 12, 30, "fp16"),
    Planned("operators", "mixlm", 15, 40),
    Planned("reference", "mixlm", 20, 60),
    Planned("parity", "mixlm", 15, 50, "fp16"),
    Planned("served", "slm", 20, 45, "fp16"),
    Planned("restore", "mixlm", 10, 60, PLANS),
    Planned("build_plans", "mixlm", 30, 120, PLANS),
    Planned("parity", "mixlm", 15, 45, PLANS),
    Planned("in_process", "mixlm", 25, 60, PLANS),
    Planned("restore", "slm", 10, 40, PLANS),
    Planned("build_plans", "slm", 25, 80, PLANS),
    Planned("in_process", "slm", 15, 40, PLANS),
    Planned("conformance", "mixlm", 30, 120),
    Planned("peers", "mixlm", 20, 50),
    Planned("peers", "slm", 15, 30),
    Planned("set_ranking", "mixlm", 20, 60),
    Planned("set_peers", "mixlm", 20, 40),
    Planned("encoding", "mixlm", 20, 50),
    Planned("encode_job", "mixlm", 15, 40),
    Planned("text_kinds", "mixlm", 20, 60),
    Planned("lists", "mixlm", 20, 60),
    Planned("resident", "mixlm", 20, 50, "fp16"),
    Planned("restore", "mixlm", 10, 60, "bf16"),
    Planned("in_process", "mixlm", 25, 60, "bf16"),
    Planned("parity", "mixlm", 15, 40, "bf16"),
    Planned("restore", "slm", 10, 40, "bf16"),
    Planned("in_process", "slm", 15, 35, "bf16"),
    Planned("reference", "slm", 15, 40),
    Planned("parity", "slm", 15, 40, "fp16"),
    Planned("trained", "esco", 20, 50),
    Planned("trained", "int8", 20, 50),
    Planned("trained", "int4", 20, 50),
    Planned("compiled_peers", "mixlm", 60, 150),
    Planned("compiled_peers", "slm", 60, 100),
    Planned("trained", "fp8", 60, 120),  # 48 s were not enough
)


def chosen(only: Collection[str], plan: Collection[Planned] = PLAN) -> tuple[Planned, ...]:
    """Parts by module or whole name, with those that they need; all where none is named.

    Raises ValueError for a name that no part has.
    """
    known = {name for part in plan for name in (part.module, part.name)}
    if unknown := set(only) - known:
        raise ValueError(
            f"no part is called {', '.join(sorted(unknown))}: there are {', '.join(sorted(known))}"
        )
    wanted = {part.name for part in plan if not only or part.module in only or part.name in only}
    for part in reversed(tuple(plan)):
        wanted |= set(part.needs) if part.name in wanted else set()
    return tuple(part for part in plan if part.name in wanted)


def due(parts: Collection[Planned], results: Results, work: Path) -> tuple[Planned, ...]:
    """Parts that have no results yet, and those whose leavings one of them takes and that are not in `work`."""
    open_parts = {part.name for part in parts if not is_done(results, part.name)}
    for part in reversed(tuple(parts)):
        if part.makes and not (work / part.makes).exists() and _is_taken(part.name, parts, open_parts):
            open_parts.add(part.name)
    return tuple(part for part in parts if part.name in open_parts)


def _is_taken(name: str, parts: Collection[Planned], takers: Collection[str]) -> bool:
    return any(part.name in takers and name in part.needs for part in parts)


def is_done(results: Results, name: str) -> bool:
    """Says whether a part ran to its end."""
    return results.get(name, {}).get("outcome") == "done"


def failures(results: Results) -> list[str]:
    """Names of the parts that were begun and did not run to their end."""
    return [name for name, part in results.items() if part.get("outcome", "done") != "done"]


def seconds_for(part: Planned, left_s: float, *, tiny: bool) -> float | None:
    """Seconds that a part may take of those that are left; None where it is not worth beginning.

    A rehearsal on a busy CPU has the time of several.
    """
    return (
        None
        if left_s < (1.0 if tiny else part.least_s)
        else min(left_s, part.most_s * (_REHEARSED if tiny else 1))
    )


def obstacle(part: Planned, results: Results, device: str, exists: Callable[[str], bool]) -> str:
    """Says why a part cannot be run here; "" where it can."""
    if part.form == PLANS and device == "cpu" and part.module not in ("restore", "build_plans"):
        return "plans run on a GPU"
    missing = [name for name in part.needs if not is_done(results, name)]
    if missing:
        return f"{missing[0]} did not end well"
    skeletons = {"restore": f"{part.model}.{part.form}.skeleton", "trained": f"trained-{part.model}.skeleton"}
    skeleton = skeletons.get(part.module)
    return "" if skeleton is None or exists(skeleton) else f"there is no {skeleton}"
