"""Rules of a classifier's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.kinds.pair_rule import pair_rule

NAME = "classifier"
ROLE = "classify"


def _shape(manifest: Manifest) -> Iterator[str]:
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"
    if manifest.embedding is not None or manifest.pairing is not None:
        yield f"embedding, pairing: kind {NAME} takes texts alone: must be null"


def _labels(manifest: Manifest) -> Iterator[str]:
    labels = manifest.labels
    if labels is None or labels.source != "classification_head":
        yield f"labels: kind {NAME} answers by a classification head: must be its outputs"
        return
    if manifest.score is not None:
        yield f"score: kind {NAME} answers with probabilities of all labels, as head.exclusive says: must be null"
    if labels.ids != list(range(len(labels.ids))):
        yield f"labels.ids: are {labels.ids}, kind {NAME} has every output of its head, in order"


def _head(manifest: Manifest) -> Iterator[str]:
    """Follows the width from pooled states through dense layers to the labels."""
    head, labels = manifest.head, manifest.labels
    if head is None:
        yield f"head: kind {NAME} must say whether its labels exclude each other"
        return
    if head.pooling is None and (head.further_poolings or head.dense):
        yield "head.pooling: missing, and dense layers take pooled states"
    if head.exclusive and labels is not None and len(labels.names) < 2:
        yield f"head.exclusive: is true, and there is one label, {labels.names}, which excludes no other: must be false"
    width = manifest.shape.hidden_size * len(head.poolings)
    for index, layer in enumerate(head.dense):
        if layer.in_features != width:
            yield f"head.dense[{index}].in_features: is {layer.in_features}, what comes in has {width}"
        width = layer.out_features
    if head.pooling is not None and labels is not None and width != len(labels.names):
        yield (
            f"labels: {counted(len(labels.names), 'name')}, and head ends in {counted(width, 'output')}: "
            "must be one name an output"
        )


def _outputs(manifest: Manifest) -> Iterator[str]:
    count = 0 if manifest.labels is None else len(manifest.labels.names)
    for index, graph in enumerate(manifest.graphs):
        for output in graph.outputs:
            if output.shape[-1] != count:
                yield (
                    f"labels: {counted(count, 'name')}, and graphs[{index}] ({graph.file!r}) answers with "
                    f"{output.shape[-1]} "
                    "logits: must be one name a logit"
                )


def _texts(manifest: Manifest) -> Iterator[str]:
    if manifest.pair is not None:
        yield from _PAIR(manifest)
    elif manifest.prompt.prefix:
        yield f"prompt.prefix: kind {NAME} of single texts (pair is null) has no prefix: must be empty"


_PAIR = pair_rule(NAME)
RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({ROLE}), (_shape, _labels, _head, _outputs, _texts))}
)
