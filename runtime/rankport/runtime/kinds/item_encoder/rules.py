"""Rules of an item encoder's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules

NAME = "item-encoder"


def _layers(manifest: Manifest) -> Iterator[str]:
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"


def _labels(manifest: Manifest) -> Iterator[str]:
    if manifest.score is not None and manifest.score.kind != "cosine":
        yield f"score: kind {NAME} has no labels to make a {manifest.score.kind} of: cosine, or left out"
    if manifest.labels is not None:
        yield f"labels: kind {NAME} has no labels"


def _embedding(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    if embedding is None:
        yield f"embedding: kind {NAME} must say what it makes"
        return
    for name in ("pooling", "normalize"):
        if getattr(embedding, name) is None:
            yield f"embedding.{name}: missing"


def _pairing(manifest: Manifest) -> Iterator[str]:
    if manifest.pairing is not None:
        yield "pairing: belongs to a ranker that takes embedding tokens (embedding is set)"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if manifest.prompt.prefix:
        yield f"prompt.prefix: kind {NAME} has no prefix: must be empty"


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({"encode"}), (_layers, _labels, _embedding, _pairing, _prompt))}
)
