"""Rules of a two-tower's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import GraphSpec, Manifest, Role, TensorSpec
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.bundle.sections.wide import repeated_name

NAME = "two-tower"
SCORE: Role = "score"
SHARED: Role = "represent"
APART: Mapping[Side, Role] = MappingProxyType({"query": "represent-query", "item": "represent-item"})


def role_of(manifest: Manifest, side: Side) -> Role:
    """Names the graph that reads a side."""
    shared = any(graph.role == SHARED for graph in manifest.graphs)
    return SHARED if shared else APART[side]


def _parts(manifest: Manifest) -> Iterator[str]:
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"
    if manifest.pairing is not None:
        yield f"pairing: kind {NAME} takes representations of its own alone: must be null"
    if manifest.labels is None:
        yield f"labels: kind {NAME} names the outputs of its score"
    if manifest.score is None:
        yield f"score: kind {NAME} says what its score is"
    elif manifest.score.transform in ("softmax", "log-odds"):
        yield f"score.transform: the outputs of kind {NAME} do not compete: sigmoid or none"


def is_late(manifest: Manifest) -> bool:
    """Tells late interaction: a representation is several vectors, of query and item alike."""
    return manifest.embedding is not None and manifest.embedding.tokens > 1


def is_sparse(manifest: Manifest) -> bool:
    """Tells a sparse encoder: a representation is a weight for each token of the vocabulary, most of them 0."""
    return manifest.embedding is not None and manifest.embedding.form == "vocabulary"


def vectors_of(manifest: Manifest, side: Side) -> int:
    """Counts the vectors of a side's representation: one but of late interaction, whose score graph says the query's.

    Of a manifest that was not checked 0 may be said.
    """
    assert manifest.embedding is not None
    if side == "item" or not is_late(manifest):
        return manifest.embedding.tokens
    inputs = (tensor for graph in manifest.graphs if graph.role == SCORE for tensor in graph.inputs)
    shape = next((tensor.shape for tensor in inputs if tensor.name == "query"), [])
    return shape[0] if shape and isinstance(shape[0], int) else 0


def _embedding(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    if embedding is None:
        yield f"embedding: kind {NAME} must say what a representation is"
        return
    for name in embedding.making:
        if name != "form":
            yield f"embedding.{name}: is the tower's own affair: must be left out"
    if is_sparse(manifest) and is_late(manifest):
        yield f"embedding.tokens: is {embedding.tokens}, and a text has one row of weights: must be 1"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if not manifest.prompt.fields:
        yield f"prompt.prefix: kind {NAME} reads the query there: it needs a field"
    if manifest.prompt.item[0].joined:
        yield "prompt.item[0].joined: query and item are read apart: must be left out"


def _wide(manifest: Manifest) -> Iterator[str]:
    name = repeated_name(manifest.wide)
    if name is not None:
        yield f"wide: {name!r} is named twice"


def _graphs(manifest: Manifest) -> Iterator[str]:
    """Follows the width of a representation through the graphs."""
    if manifest.embedding is None or manifest.labels is None:
        return
    width, dtype = manifest.embedding.hidden_size, manifest.embedding.dtype
    query, item = vectors_of(manifest, "query"), vectors_of(manifest, "item")
    late = is_late(manifest)
    takes: dict[str, list[int | str]] = {
        "query": [query, width] if late else [width],
        "items": ["items", item, width] if late else ["items", width],
    }
    if manifest.wide:
        takes["features"] = ["items", len(manifest.wide)]
    for index, graph in enumerate(manifest.graphs):
        if graph.role == SCORE:
            yield from _inputs(graph, index, takes)
            yield from _output(graph, index, ["items", len(manifest.labels.names)], "float32")
        elif late and graph.role == SHARED:
            yield f"graphs[{index}].role: {SHARED} reads query and item as one vector, and here are {item} of an item"
        else:
            vectors = query if graph.role == APART["query"] else item
            yield from _output(graph, index, ["items", vectors, width], dtype)


def _inputs(graph: GraphSpec, index: int, takes: Mapping[str, list[int | str]]) -> Iterator[str]:
    has = {tensor.name: tensor for tensor in graph.inputs}
    for name in sorted(has.keys() | takes.keys()):
        where = f"graphs[{index}].inputs"
        if name not in has:
            yield f"{where}: lacks {name!r} {takes[name]}"
        elif name not in takes:
            yield f"{where}: {name!r} is none of {', '.join(takes)}"
        elif not _is(has[name], takes[name], "float32"):
            yield f"{where}: {name!r} is {has[name].dtype} {has[name].shape}, must be float32 {takes[name]}"


def _output(graph: GraphSpec, index: int, shape: list[int | str], dtype: str) -> Iterator[str]:
    if len(graph.outputs) != 1 or not _is(graph.outputs[0], shape, dtype):
        has = ", ".join(f"{tensor.dtype} {tensor.shape}" for tensor in graph.outputs)
        yield f"graphs[{index}].outputs: role {graph.role} gives {has or 'nothing'}, must be {dtype} {shape}"


def _is(tensor: TensorSpec, shape: list[int | str], dtype: str) -> bool:
    return tensor.dtype == dtype and tensor.shape == shape


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {
        NAME: ManifestRules(
            frozenset({SHARED, SCORE}),
            (_parts, _embedding, _prompt, _wide, _graphs),
            other_roles=(frozenset({*APART.values(), SCORE}),),
        )
    }
)
