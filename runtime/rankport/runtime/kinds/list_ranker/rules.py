"""Rules of a list ranker's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.backends.layouts.marked import POSITIONS
from rankport.runtime.bundle.manifest import Manifest, Role
from rankport.runtime.bundle.manifest_rules import ManifestRules

NAME = "list-ranker"
ROLE: Role = "list"


def _parts(manifest: Manifest) -> Iterator[str]:
    if manifest.lists is None:
        yield f"lists: kind {NAME} must say what its prompt is, and what is read of it"
        return
    if manifest.tokenizer is None:
        yield f"tokenizer: kind {NAME} puts its prompt together as text: must be a file of the bundle"
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"
    if manifest.pair is not None:
        yield f"pair: kind {NAME} reads lists, not pairs: must be null"
    if manifest.prompt.fields != manifest.lists.fields:
        yield (
            f"prompt.prefix: has the fields {list(manifest.prompt.fields)}, and lists {list(manifest.lists.fields)}: "
            "must be the same, in order"
        )
    if any(segment.field is None for segment in manifest.prompt.prefix) or len(manifest.prompt.item) != 1:
        yield f"prompt: kind {NAME} has its prompt in lists: here are its fields and the bare item alone"
    for name, marker in (
        ("item_marker", manifest.lists.item_marker),
        ("query_marker", manifest.lists.query_marker),
    ):
        if marker is not None and marker.id >= manifest.shape.vocab_size:
            yield f"lists.{name}.id: {marker.id} is out of range, must be 0 to {manifest.shape.vocab_size - 1}"


def _score(manifest: Manifest) -> Iterator[str]:
    lists, labels, score = manifest.lists, manifest.labels, manifest.score
    if labels is None or len(labels.names) != 1 or labels.source != "classification_head":
        yield f"labels: kind {NAME} has one, of its read-out: must be one output of a head"
    if score is None or lists is None or (score.kind == "cosine") != (lists.read_out == "cosine"):
        yield f"score: kind {NAME} gives the cosine of query and item, or what a logit is made to, as lists.read_out"
    elif score.transform not in ("none", "sigmoid"):
        yield f"score.transform: a list ranker's one label does not compete: none or sigmoid, not {score.transform}"


def _graphs(manifest: Manifest) -> Iterator[str]:
    """Compares what the graphs take and give with the sections."""
    if manifest.lists is None:
        return
    lists = manifest.lists
    takes = {"input_ids": ["lists", "list_tokens"], "marks": ["lists", "marks"]}
    if manifest.embedding is not None:
        takes["embedding_rows"] = ["lists", "list_tokens"]
    for index, graph in enumerate(manifest.graphs):
        names = {tensor.name for tensor in graph.inputs} - {"embeddings"}
        if graph.target == "onnx-cuda":
            names -= {POSITIONS}  # what a model without positions does not read
        if names != takes.keys():
            yield f"graphs[{index}].inputs: are {sorted(names)}, must be {sorted(takes)}"
        shapes = [(tensor.dtype, tensor.shape) for tensor in graph.outputs]
        if shapes != [("float32", ["lists", "marks", lists.width])]:
            yield f"graphs[{index}].outputs: must be one of float32 ['lists', 'marks', {lists.width}], is {shapes}"


def _embedding(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    if embedding is None:
        if manifest.pairing is not None:
            yield f"pairing: belongs to a {NAME} that takes embedding tokens (embedding is set)"
        return
    if manifest.lists is not None and manifest.lists.alone:
        yield f"embedding: a {NAME} that reads items alone takes texts and token ids: must be null"
    for name in embedding.making:
        yield f"embedding.{name}: says how tokens are made, and a {NAME} takes them: must be left out"
    if embedding.tokens > manifest.limits.max_item_tokens:
        yield (
            f"embedding.tokens: {embedding.tokens} do not fit "
            f"limits.max_item_tokens {manifest.limits.max_item_tokens}"
        )


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({ROLE}), (_parts, _score, _graphs, _embedding))}
)
