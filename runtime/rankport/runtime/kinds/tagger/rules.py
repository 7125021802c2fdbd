"""Rules of a tagger's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.kinds.tagger.labels import LabelScheme

NAME = "tagger"
ROLE = "tag"


def _unused(manifest: Manifest) -> Iterator[str]:
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"
    for field in ("score", "embedding", "pairing"):
        if getattr(manifest, field) is not None:
            yield f"{field}: kind {NAME} has none: must be null"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.labels
    if labels is None:
        yield f"labels: kind {NAME} must name what it tags"
        return
    if labels.source != "token_head":
        yield f"labels.source: is {labels.source}, kind {NAME} has token_head"
    if labels.ids != list(range(len(labels.ids))):
        yield f"labels.ids: {labels.ids}: kind {NAME} has the columns of its logits, 0 to {len(labels.ids) - 1}"
    if labels.positive:
        yield f"labels.positive: {labels.positive}: no label of kind {NAME} stands out: leave it out"


def _tagging(manifest: Manifest) -> Iterator[str]:
    tagging, labels = manifest.tagging, manifest.labels
    if tagging is None:
        yield f"tagging: kind {NAME} must say how labels become spans"
        return
    if labels is None:
        return
    try:
        told = LabelScheme.of(labels.names).scheme
    except ValueError as error:
        yield f"labels.names: {error}"
        return
    if tagging.scheme != told:
        yield f"tagging.scheme: is {tagging.scheme}, labels.names are of {told}"


def _outputs(manifest: Manifest) -> Iterator[str]:
    """Demands a row of logits a token: padding is told from tokens by the output's axes."""
    expected = ["items", "item_tokens", len(manifest.labels.names) if manifest.labels else 0]
    for index, graph in enumerate(manifest.graphs):
        shapes = [output.shape for output in graph.outputs]
        if shapes != [expected]:
            yield f"graphs[{index}].outputs: kind {NAME} has one, of shape {expected}; here {shapes}"


def _text(manifest: Manifest) -> Iterator[str]:
    if manifest.tokenizer is None:
        yield f"tokenizer: kind {NAME} tells places in texts: it must have one"
    if manifest.prompt.prefix:
        yield f"prompt.prefix: kind {NAME} has no prefix: must be empty"
    for index, segment in enumerate(manifest.prompt.item):
        if segment.joined:
            yield f"prompt.item[{index}]: kind {NAME} tells places in a text: it is tokenized by itself, not joined"


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({ROLE}), (_unused, _labels, _tagging, _outputs, _text))}
)
