"""Rules of a ranker's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Embedding, Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules

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


def _embedding(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    if embedding is None:
        if manifest.pairing is not None:
            yield "pairing: belongs to a ranker that takes embedding tokens (embedding is set)"
        return
    for name in ("pooling", "normalize", "further_poolings", "skip_tokens", "dense", "cut_from"):
        if getattr(embedding, name) != Embedding.model_fields[name].get_default(call_default_factory=True):
            yield f"embedding.{name}: says how tokens are made, and a {NAME} takes them: must be left out"
    if embedding.tokens > manifest.limits.max_item_tokens:
        yield (
            f"embedding.tokens: {embedding.tokens} do not fit "
            f"limits.max_item_tokens {manifest.limits.max_item_tokens}"
        )


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({"prefix", "score"}), (_layers, _labels, _score, _embedding))}
)
