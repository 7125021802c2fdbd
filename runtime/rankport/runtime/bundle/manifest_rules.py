"""Rules across sections of a manifest: those of every bundle, and how a kind adds its own.

Each rule yields its complaints, field first; `check_manifest` raises the first one. No file is touched here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.bundle.files import path_problem
from rankport.runtime.bundle.fingerprint import fingerprint
from rankport.runtime.bundle.manifest import Labels, Manifest, Role
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME

Rule = Callable[[Manifest], Iterator[str]]


@dataclass(frozen=True, slots=True)
class ManifestRules:
    """Rules of a kind's manifest beyond those of every manifest."""

    roles: frozenset[Role]  # of its graphs, once each for a target
    rules: tuple[Rule, ...]
    other_roles: tuple[frozenset[Role], ...] = ()  # that a bundle may have instead
    item_fields: bool = False  # the request's fields may stand in the item's segments
    queries: bool = False  # it may say how queries are read


KindRules = Mapping[str, ManifestRules]
"""By the name of the kind."""


def check_manifest(manifest: Manifest, kinds: KindRules) -> None:
    """Checks a manifest by itself.

    Raises:
        BundleError: naming the first field that contradicts another.
        InvalidRequest: it is of none of `kinds`.
    """
    own = kinds.get(manifest.kind)
    if own is None:
        raise InvalidRequest(
            f"{MANIFEST_NAME}: kind: is {manifest.kind!r}, where {' or '.join(kinds)} is looked for: give another "
            "bundle (`rankport inspect` tells what one is), or update rankport"
        )
    special = ((own.item_fields, _no_item_fields), (own.queries, _no_queries))
    others = [rule for may, rule in special if not may]
    for rule in (*_RULES, *others, _graph_roles((own.roles, *own.other_roles)), *own.rules, _fingerprint):
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


def _tagging(manifest: Manifest) -> Iterator[str]:
    tagging = manifest.tagging
    if tagging is None:
        return
    if all(graph.role != "tag" for graph in manifest.graphs):
        yield "tagging: belongs to a bundle whose graph tags tokens: must be null"
    if tagging.crf is None:
        return
    file = tagging.crf.file
    if all(entry.path != file for entry in manifest.files):
        yield f"tagging.crf.file: {file!r} is not in files"
    if file == manifest.tokenizer or any(graph.file == file for graph in manifest.graphs):
        yield f"tagging.crf.file: {file!r} has more than one use"


def _generation(manifest: Manifest) -> Iterator[str]:
    generation = manifest.generation
    if manifest.chat is not None and (generation is None or generation.decoding is not None):
        yield f"chat: kind {manifest.kind} answers none: must be null"
    if generation is None:
        return
    if all(graph.role != "decode" for graph in manifest.graphs):
        yield "generation: belongs to a bundle whose graph decodes: must be null"
    for index, token in enumerate(generation.stop_ids):
        if token >= manifest.shape.vocab_size:
            yield f"generation.stop_ids[{index}]: {token} is out of range, must be 0 to {manifest.shape.vocab_size - 1}"


def _graph_roles(expected: tuple[frozenset[Role], ...]) -> Rule:
    def rule(manifest: Manifest) -> Iterator[str]:
        for target in manifest.targets or (None,):
            roles = [
                graph.role
                for graph in manifest.graphs
                if graph.target == target and graph.onnxruntime is None
            ]
            if set(roles) not in expected or len(roles) != len(set(roles)):
                known = " or ".join(str(sorted(roles)) for roles in expected)
                yield (
                    f"graphs: kind {manifest.kind} has the roles {known}, once each for a target; "
                    f"here {sorted(roles)}"
                )

    return rule


def _graphs(manifest: Manifest) -> Iterator[str]:
    for target in manifest.target_parity or {}:
        if target not in manifest.targets[1:]:
            yield f"target_parity: {target!r} is not among the targets after the first of graphs"
    for index, graph in enumerate(manifest.graphs):
        twin = next((other for other in manifest.graphs[:index] if other.file == graph.file), None)
        if twin is not None and (twin.target, twin.precision) != (graph.target, graph.precision):
            yield f"graphs[{index}]: {graph.file!r} has another target or precision as role {twin.role!r}"
        if twin is not None and twin.inputs != graph.inputs:
            yield f"graphs[{index}].inputs: {graph.file!r} has other inputs as role {twin.role!r}"
        if graph.onnxruntime is not None:
            yield from _second_form(manifest, index)
        if graph.fp8_products and graph.target != "onnx-cuda":
            yield f"graphs[{index}].fp8_products: must be false for target {graph.target}, which has no such operator"
        for place, tensor in enumerate(graph.inputs):
            for axis in tensor.shape:
                if isinstance(axis, str) and axis not in manifest.axes:
                    yield f"graphs[{index}].inputs[{place}].shape: axis {axis!r} has no range in axes"


def _second_form(manifest: Manifest, index: int) -> Iterator[str]:
    graph = manifest.graphs[index]
    before = [
        other for other in manifest.graphs[:index] if (other.role, other.target) == (graph.role, graph.target)
    ]
    if all(other.onnxruntime is not None for other in before):
        yield f"graphs[{index}].onnxruntime: no form of role {graph.role!r} for all versions stands before it"
    if graph.target == "tensorrt":
        yield f"graphs[{index}].onnxruntime: must be null for target tensorrt"
    if any(other.onnxruntime == graph.onnxruntime for other in before):
        yield f"graphs[{index}].onnxruntime: {graph.onnxruntime!r} stands twice for role {graph.role!r}"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.labels
    if labels is None:
        return
    if not labels.names or len(labels.names) != len(labels.ids):
        yield f"labels: {counted(len(labels.names), 'name')} but {len(labels.ids)} ids: must be one id a name, not none"
    if labels.positive >= len(labels.names):
        yield f"labels.positive: {labels.positive} is none of the {counted(len(labels.names), 'label')}"
    if len(set(labels.names)) < len(labels.names) or len(set(labels.ids)) < len(labels.ids):
        yield "labels: a name or an id is given twice"
    limit = manifest.shape.vocab_size if labels.source == "lm_head" else None
    for index, label in enumerate(labels.ids):
        if label < 0 or (limit is not None and label >= limit):
            bound = f"0 to {limit - 1}" if limit is not None else "0 or more"
            yield f"labels.ids[{index}]: {label} is out of range, must be {bound}"
    yield from _passed_over(labels, manifest.shape.vocab_size)


def _passed_over(labels: Labels, vocab_size: int) -> Iterator[str]:
    if labels.pad_token is None:
        return
    if labels.source != "classification_head":
        yield f"labels.pad_token: an {labels.source} answers at the last token, whichever it is: leave it out"
    if labels.pad_token >= vocab_size:
        yield f"labels.pad_token: {labels.pad_token} is out of range, must be 0 to {vocab_size - 1}"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if manifest.tokenizer is not None:
        return
    for part, segments in (("prefix", manifest.prompt.prefix), ("item", manifest.prompt.item)):
        for index, segment in enumerate(segments):
            if segment.is_literal:
                yield f"prompt.{part}[{index}]: text and special need a tokenizer, and tokenizer is null"


def _no_item_fields(manifest: Manifest) -> Iterator[str]:
    for index, segment in enumerate(manifest.prompt.item):
        if segment.field is not None:
            yield (
                f"prompt.item[{index}]: field {segment.field!r} belongs to the prefix's segments: kind {manifest.kind} "
                "reads no field with its items"
            )


def _no_queries(manifest: Manifest) -> Iterator[str]:
    if manifest.queries is not None:
        yield f"queries: kind {manifest.kind} says nothing of them here: must be null"


def _fingerprint(manifest: Manifest) -> Iterator[str]:
    computed = fingerprint(manifest, manifest.files)
    if manifest.fingerprint != computed:
        yield f"fingerprint: {manifest.fingerprint} is stated, but the fields and files give {computed}"


_RULES: tuple[Rule, ...] = (_files, _references, _tagging, _generation, _graphs, _labels, _prompt)
