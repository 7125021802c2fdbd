"""Status of a bundle's plans here and now: which still fit the bundle, and which could run.

Reads and hashes; loads no TensorRT, so the version at hand is read off the installed packages.
"""

from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import BundleError
from rankport.runtime.backends.tensorrt.module import installed_version
from rankport.runtime.backends.tensorrt.plan_files import (
    PlanRecord,
    StoredPlan,
    graph_hashes,
    open_plan,
    stored_plans,
)
from rankport.runtime.backends.tensorrt.plan_key import PlanKey, join_differences
from rankport.runtime.bundle.bundle import Bundle


@dataclass(frozen=True, slots=True)
class PlanStatus:
    """Plan and whether it still fits."""

    path: Path
    record: PlanRecord | None  # None: it cannot be read
    misfit: str  # why it does not fit the bundle any more; empty if it does
    other_version: str  # why this machine's packages cannot load it; empty if they can


def check_plans(bundle: Bundle) -> list[PlanStatus]:
    """Checks every plan of the bundle; the bytes of each are hashed."""
    return [
        PlanStatus(path, None, str(plan), "")
        if isinstance(plan, BundleError)
        else PlanStatus(path, plan.record, _misfit(bundle, plan), _other_version(plan.record.key))
        for path, plan in stored_plans(bundle).items()
    ]


def _misfit(bundle: Bundle, plan: StoredPlan) -> str:
    key = plan.record.key
    if all(graph.file != key.graph for graph in bundle.manifest.graphs):
        return f"the bundle has no graph {key.graph}"
    graph_sha256, weights = graph_hashes(bundle, key.graph)
    differences = key.differences(key.model_copy(update={"graph_sha256": graph_sha256, "weights": weights}))
    if differences:
        return join_differences(differences)
    try:
        with open_plan(plan):
            return ""
    except BundleError as error:
        return str(error)


def _other_version(key: PlanKey) -> str:
    here = installed_version(key.module)
    return "" if here == key.module_version else f"{key.module} here is {here or 'not installed'}"
