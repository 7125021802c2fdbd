"""Rules of a ranker's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.bundle.sections.embedding import AVERAGES

NAME = "ranker"


def _layers(manifest: Manifest) -> Iterator[str]:
    if not manifest.shape.layers:
        yield f"shape.layers: kind {NAME} must list its attention layers"


def _labels(manifest: Manifest) -> Iterator[str]:
    if manifest.labels is None:
        yield f"labels: kind {NAME} needs labels"


def _score(manifest: Manifest) -> Iterator[str]:
    score = manifest.score
    if score is None or score.kind == "cosine":
        yield f"score: kind {NAME} says probability or logit, and how it is made of the label logits"
    elif score.transform in ("softmax", "log-odds") and manifest.labels and len(manifest.labels.names) < 2:
        yield f"score.transform: {score.transform} needs labels that compete, and there is one"


def _head(manifest: Manifest) -> Iterator[str]:
    """Follows the width from the pooled states through dense layers to the labels."""
    head, labels = manifest.head, manifest.labels
    if head is None:
        return
    if head.pooling not in ("last-k", *AVERAGES) or head.further_poolings:
        pooled = " and ".join(head.poolings) or None
        yield (
            f"head.pooling: is {pooled}, and kind {NAME} reads the last state or an average: must be last-k or one "
            f"of {', '.join(AVERAGES)}"
        )
    if labels is None or labels.source != "classification_head":
        yield "labels: a head of dense layers answers by its outputs: source must be classification_head"
    width = manifest.shape.hidden_size
    for index, layer in enumerate(head.dense):
        if layer.in_features != width:
            yield f"head.dense[{index}].in_features: is {layer.in_features}, what comes in has {width}"
        width = layer.out_features
    if labels is not None and width != len(labels.names):
        yield (
            f"labels: {counted(len(labels.names), 'name')}, and head ends in {counted(width, 'output')}: "
            "must be one name an output"
        )


def _states(manifest: Manifest) -> Iterator[str]:
    """Looks for the states that prefixes keep exactly where an average reads them."""
    averages = manifest.head is not None and manifest.head.pooling in AVERAGES
    for index, graph in enumerate(manifest.graphs):
        names = [tensor.name for tensor in (graph.outputs if graph.role == "prefix" else graph.inputs)]
        wanted = "new_states" if graph.role == "prefix" else "past_states"
        if (wanted in names) != averages:
            yield (
                f"graphs[{index}]: {graph.file!r} {'lacks' if averages else 'has'} {wanted}, and head.pooling "
                f"{'averages them' if averages else 'reads none'}"
            )


def _embedding(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    if embedding is None:
        if manifest.pairing is not None:
            yield "pairing: belongs to a ranker that takes embedding tokens (embedding is set)"
        return
    for name in embedding.making:
        yield f"embedding.{name}: says how tokens are made, and a {NAME} takes them: must be left out"
    if embedding.tokens > manifest.limits.max_item_tokens:
        yield (
            f"embedding.tokens: {embedding.tokens} do not fit "
            f"limits.max_item_tokens {manifest.limits.max_item_tokens}"
        )


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {
        NAME: ManifestRules(
            frozenset({"prefix", "score"}),
            (_layers, _labels, _score, _head, _states, _embedding),
            item_fields=True,
        )
    }
)
