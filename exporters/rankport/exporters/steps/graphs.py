"""Traces the graphs of a plan, for every target."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.graphs.passes.fp8_products import expand_fp8_products
from rankport.exporters.graphs.passes.half_precision import BeyondHalfError
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.specs import graph_specs
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.proof.prove import Progress
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import GraphSpec


@contextmanager
def _weights_named(model: nn.Module) -> Iterator[None]:
    """Tells which weight a value of a graph is, by what it holds: traced graphs have names of their own."""
    try:
        yield
    except BeyondHalfError as error:
        held = (
            f"weight {name!r}"
            for name, weight in model.named_parameters()
            if weight.is_floating_point() and weight.numel() and float(weight.abs().max()) == error.largest
        )
        name = next(held, None)
        raise CheckpointError(str(error) if name is None else error.told(name)) from error


def trace_graphs(
    source: Checkpoint, plan: ExportPlan, options: ExportOptions, on_progress: Progress
) -> tuple[dict[str, RoleGraph], list[GraphSpec]]:
    """Traces the graphs for every target: by name, the first target's bare; and as the manifest lists them."""
    on_progress("tracing the graphs")
    graphs: dict[str, RoleGraph] = {}
    specs: list[GraphSpec] = []
    first = options.chosen_target
    for target in options.targets:
        precision = options.precision_for(target)
        other = None if precision == options.precision_for(first) else precision
        with _weights_named(source.model):
            traced = plan.graphs(source, target, precision)
        for stem, graph in traced.items():
            name = stem if target == first else f"{stem}.{target}"
            expand_fp8_products(graph.model)
            graphs[name] = graph
            specs += graph_specs(name, graph, target, other)
    return graphs, specs
