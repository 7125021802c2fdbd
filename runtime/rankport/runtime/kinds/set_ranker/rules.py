"""Rules of the manifest of a ranker of sets."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np

from rankport.runtime.backends.layouts.sets import (
    CANDIDATE_ROWS,
    CANDIDATES,
    EVENT_ROWS,
    EVENTS,
    HISTORY,
    RANK,
    RANK_SET,
    gathers_rows,
    scales_input,
    state_names,
    table_input,
)
from rankport.runtime.bundle.manifest import DType, GraphSpec, Manifest, Precision, Role, TensorSpec
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.bundle.sections.sets import IdFeature, SetFeature, Sets

NAME = "set-ranker"
_STATES: Mapping[Precision, DType] = MappingProxyType(
    {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
)

Shape = list[int | str]


def _parts(manifest: Manifest) -> Iterator[str]:
    if manifest.sets is None:
        yield f"sets: kind {NAME} says what its events and candidates are"
    if not manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps the state of a history: must not be empty"
    if manifest.labels is None:
        yield f"labels: kind {NAME} names its heads"
    if manifest.score is None or manifest.score.transform not in ("sigmoid", "none"):
        yield f"score.transform: the heads of kind {NAME} do not compete: sigmoid or none"
    for field in ("wide", "pair", "head", "tagging", "tokenizer", "embedding"):
        if getattr(manifest, field):
            yield f"{field}: is no part of kind {NAME}: must be left out"
    if manifest.prompt.prefix or len(manifest.prompt.item) != 1:
        yield f"prompt: kind {NAME} reads features, no text: the bare item alone"


def _sets(manifest: Manifest) -> Iterator[str]:
    sets, labels = manifest.sets, manifest.labels
    assert sets is not None
    assert labels is not None
    unknown = sorted(sets.head_weights.keys() - set(labels.names))
    if unknown or not sets.head_weights:
        yield f"sets.head_weights: {unknown[0]!r} is no head" if unknown else "sets.head_weights: is empty"
    elif not any(map(np.float32, sets.head_weights.values())):
        yield "sets.head_weights: are all 0: one that counts is needed"
    listed = {entry.path for entry in manifest.files}
    for name, table in sets.files.items():
        for field, file in (("file", table.file), ("keys", table.keys)):
            if file is not None and file not in listed:
                yield f"sets.files.{name}.{field}: {file!r} is not in files"
    limits = manifest.limits
    if (limits.max_prefix_tokens, limits.max_item_tokens) != (sets.max_events, sets.max_candidates):
        yield "limits: are not sets.max_events and sets.max_candidates"


def _roles(manifest: Manifest) -> Iterator[str]:
    assert manifest.sets is not None
    two_passes = manifest.sets.mask.policy == "top"
    if two_passes != any(graph.role == RANK_SET for graph in manifest.graphs):
        yield f"graphs: role {RANK_SET} goes with sets.mask.policy top, and that is {manifest.sets.mask.policy}"


def _graphs(manifest: Manifest) -> Iterator[str]:
    """Follows features and state through the graphs."""
    sets, labels = manifest.sets, manifest.labels
    assert sets is not None
    assert labels is not None
    for index, graph in enumerate(manifest.graphs):
        dtype = _STATES[graph.precision or manifest.precision]
        gathered = gathers_rows(manifest.for_target(graph.target))
        takes = _takes(manifest, sets, graph.role, dtype, gathered=gathered)
        yield from _inputs(graph, index, takes, _main(sets, graph.role, gathered=gathered))
        gives = _state(manifest, "state", "events", dtype) if graph.role == HISTORY else {}
        if graph.role != HISTORY:
            gives = {
                "logits": TensorSpec(name="logits", dtype="float32", shape=["candidates", len(labels.names)])
            }
        has = {tensor.name: tensor for tensor in graph.outputs}
        if has != gives:
            yield f"graphs[{index}].outputs: role {graph.role} gives {_told(has)}, must be {_told(gives)}"


def _takes(
    manifest: Manifest, sets: Sets, role: Role, dtype: DType, *, gathered: bool
) -> dict[str, TensorSpec]:
    """Lists what a role may read; what it need not, a graph may leave out. `gathered`: it gathers the rows of ids."""
    taken = _state(manifest, "past", "past", dtype)
    taken["past_times"] = TensorSpec(name="past_times", dtype="int64", shape=["past"])
    if role == HISTORY:
        taken |= _features(sets, sets.event, EVENTS, EVENT_ROWS if gathered else None)
        taken["times"] = TensorSpec(name="times", dtype="int64", shape=["events"])
        return taken
    taken |= _features(sets, sets.candidate, CANDIDATES, CANDIDATE_ROWS if gathered else None)
    taken["now"] = TensorSpec(name="now", dtype="int64", shape=[1])
    taken["sessions"] = TensorSpec(name="sessions", dtype="int64", shape=["candidates"])
    return taken


def _features(sets: Sets, features: list[SetFeature], axis: str, places: str | None) -> dict[str, TensorSpec]:
    """Lists the inputs of features; with `places`, the input that says where rows of ids lie, of their tables too."""
    gathered = places is not None
    taken = {
        axis: TensorSpec(name=axis, dtype="float32", shape=[axis, sets.width(features, but_ids=gathered)])
    }
    tables = [feature.table for feature in features if isinstance(feature, IdFeature)]
    if places is None or not tables:
        return taken
    taken[places] = TensorSpec(name=places, dtype="int32", shape=[axis, len(tables)])
    for table in tables:
        dtype, name, rows = sets.files[table].dtype, table_input(table), f"rows.{table}"
        taken[name] = TensorSpec(name=name, dtype=dtype, shape=[rows, sets.tables[table].width])
        if dtype == "int8":
            name = scales_input(table)
            taken[name] = TensorSpec(name=name, dtype="float32", shape=[rows, 1])
    return taken


def _main(sets: Sets, role: Role, *, gathered: bool) -> str:
    """Names the input that every graph of a role has."""
    features, values, places = (
        (sets.event, EVENTS, EVENT_ROWS) if role == HISTORY else (sets.candidate, CANDIDATES, CANDIDATE_ROWS)
    )
    has_ids = any(isinstance(feature, IdFeature) for feature in features)
    return places if gathered and has_ids else values


def _state(manifest: Manifest, what: str, axis: str, dtype: DType) -> dict[str, TensorSpec]:
    layers = manifest.shape.layers
    shapes: list[Shape] = [[layer.kv_heads, axis, layer.head_dim] for layer in layers for _ in range(2)]
    return {
        name: TensorSpec(name=name, dtype=dtype, shape=shape)
        for name, shape in zip(state_names(what, len(layers)), shapes, strict=True)
    }


def _inputs(graph: GraphSpec, index: int, takes: Mapping[str, TensorSpec], main: str) -> Iterator[str]:
    for tensor in graph.inputs:
        if takes.get(tensor.name) != tensor:
            known = takes.get(tensor.name)
            must = (
                f"is none of {', '.join(takes)}" if known is None else f"must be {known.dtype} {known.shape}"
            )
            yield f"graphs[{index}].inputs: {tensor.name!r} {tensor.dtype} {tensor.shape} {must}"
    if all(tensor.name != main for tensor in graph.inputs):
        yield f"graphs[{index}].inputs: lacks {main!r}"


def _told(tensors: Mapping[str, TensorSpec]) -> str:
    return (
        ", ".join(f"{tensor.name} {tensor.dtype} {tensor.shape}" for tensor in tensors.values()) or "nothing"
    )


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {
        NAME: ManifestRules(
            frozenset({HISTORY, RANK}),
            (_parts, _sets, _roles, _graphs),
            other_roles=(frozenset({HISTORY, RANK, RANK_SET}),),
        )
    }
)
