"""The rules across sections of a manifest: what a ranker and an item encoder must and must not have.

Each rule yields its complaints, field first; `check_manifest` raises the first one. No file is touched here.
"""

from collections.abc import Callable, Iterator

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.files import path_problem
from rankport.runtime.bundle.fingerprint import fingerprint
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME

_ROLES = {"ranker": {"prefix", "score"}, "item_encoder": {"encode"}}


def check_manifest(manifest: Manifest) -> None:
    """Raises `BundleError` naming the first field that contradicts another."""
    for rule in _RULES:
        for complaint in rule(manifest):
            raise BundleError(f"{MANIFEST_NAME}: {complaint}")


def _files(manifest: Manifest) -> Iterator[str]:
    seen: dict[str, str] = {}
    for index, entry in enumerate(manifest.files):
        problem = path_problem(entry.path)
        if problem:
            yield f"files[{index}].path: {entry.path!r} {problem}"
        # Case-insensitive file systems hold one of the two only.
        twin = seen.get(entry.path.lower())
        if twin is not None:
            yield f"files[{index}].path: {entry.path!r} is listed twice, also as {twin!r}"
        seen[entry.path.lower()] = entry.path


def _references(manifest: Manifest) -> Iterator[str]:
    listed = {entry.path for entry in manifest.files}
    graphs = {
        graph.file: f"graphs[{index}].file" for index, graph in reversed(list(enumerate(manifest.graphs)))
    }
    for file, field in graphs.items():
        if file not in listed:
            yield f"{field}: {file!r} is not in files"
    if manifest.tokenizer is not None:
        if manifest.tokenizer not in listed:
            yield f"tokenizer: {manifest.tokenizer!r} is not in files"
        if manifest.tokenizer in graphs:
            yield f"tokenizer: {manifest.tokenizer!r} has more than one use"


def _graphs(manifest: Manifest) -> Iterator[str]:
    expected = _ROLES[manifest.kind]
    for target in manifest.targets or (None,):
        roles = [graph.role for graph in manifest.graphs if graph.target == target]
        if set(roles) != expected or len(roles) != len(expected):
            yield (
                f"graphs: kind {manifest.kind} has the roles {sorted(expected)}, once each for a target; "
                f"here {sorted(roles)}"
            )
    for target in manifest.target_parity or {}:
        if target not in manifest.targets[1:]:
            yield f"target_parity: {target!r} is not among the targets after the first of graphs"
    for index, graph in enumerate(manifest.graphs):
        twin = next((other for other in manifest.graphs[:index] if other.file == graph.file), None)
        if twin is not None and (twin.target, twin.precision) != (graph.target, graph.precision):
            yield f"graphs[{index}]: {graph.file!r} has another target or precision as role {twin.role!r}"
        if twin is not None and twin.inputs != graph.inputs:
            yield f"graphs[{index}].inputs: {graph.file!r} has other inputs as role {twin.role!r}"
        for place, tensor in enumerate(graph.inputs):
            for axis in tensor.shape:
                if isinstance(axis, str) and axis not in manifest.axes:
                    yield f"graphs[{index}].inputs[{place}].shape: axis {axis!r} has no range in axes"


def _shape(manifest: Manifest) -> Iterator[str]:
    if (manifest.kind == "ranker") != bool(manifest.shape.layers):
        has = "must list its attention layers" if manifest.kind == "ranker" else "keeps no KV: must be empty"
        yield f"shape.layers: kind {manifest.kind} {has}"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.labels
    if (manifest.kind == "ranker") != (labels is not None):
        yield f"labels: kind {manifest.kind} {'needs' if labels is None else 'has no'} labels"
    if labels is None:
        return
    if not labels.names or len(labels.names) != len(labels.ids):
        yield f"labels: {len(labels.names)} names but {len(labels.ids)} ids: must be one id a name, not none"
    if len(set(labels.names)) < len(labels.names) or len(set(labels.ids)) < len(labels.ids):
        yield "labels: a name or an id is given twice"
    limit = manifest.shape.vocab_size if labels.source == "lm_head" else None
    for index, label in enumerate(labels.ids):
        if label < 0 or (limit is not None and label >= limit):
            bound = f"0 to {limit - 1}" if limit is not None else "0 or more"
            yield f"labels.ids[{index}]: {label} is out of range, must be {bound}"


def _embedding(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    encoder = manifest.kind == "item_encoder"
    if encoder and embedding is None:
        yield "embedding: kind item_encoder must say what it makes"
    if embedding is not None:
        for name in ("pooling", "normalize"):
            if encoder != (getattr(embedding, name) is not None):
                yield f"embedding.{name}: {'missing' if encoder else 'belongs to kind item_encoder only'}"
    if not encoder and embedding is not None and embedding.tokens > manifest.limits.max_item_tokens:
        yield (
            f"embedding.tokens: {embedding.tokens} do not fit "
            f"limits.max_item_tokens {manifest.limits.max_item_tokens}"
        )


def _pairing(manifest: Manifest) -> Iterator[str]:
    if manifest.pairing is not None and (manifest.kind != "ranker" or manifest.embedding is None):
        yield "pairing: belongs to a ranker that takes embedding tokens (embedding is set)"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if manifest.kind == "item_encoder" and manifest.prompt.prefix:
        yield "prompt.prefix: kind item_encoder has no prefix: must be empty"
    if manifest.tokenizer is not None:
        return
    for part, segments in (("prefix", manifest.prompt.prefix), ("item", manifest.prompt.item)):
        for index, segment in enumerate(segments):
            if segment.is_literal:
                yield f"prompt.{part}[{index}]: text and special need a tokenizer, and tokenizer is null"


def _fingerprint(manifest: Manifest) -> Iterator[str]:
    computed = fingerprint(manifest, manifest.files)
    if manifest.fingerprint != computed:
        yield f"fingerprint: {manifest.fingerprint} is stated, but the fields and files give {computed}"


_RULES: tuple[Callable[[Manifest], Iterator[str]], ...] = (
    _files,
    _references,
    _graphs,
    _shape,
    _labels,
    _embedding,
    _pairing,
    _prompt,
    _fingerprint,
)
