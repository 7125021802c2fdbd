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
    if embedding.form != "dense":
        yield f"embedding.form: kind {NAME} makes dense tokens: must be left out"
    if embedding.skip_tokens >= manifest.limits.max_item_tokens:
        yield (
            f"embedding.skip_tokens: {embedding.skip_tokens} leave nothing of "
            f"limits.max_item_tokens {manifest.limits.max_item_tokens} to pool"
        )


def _widths(manifest: Manifest) -> Iterator[str]:
    """Follows the width from the hidden states through poolings, dense layers and cut."""
    embedding = manifest.embedding
    if embedding is None:
        return
    width = manifest.shape.hidden_size * len(embedding.poolings)
    for index, layer in enumerate(embedding.dense):
        if layer.in_features != width:
            yield f"embedding.dense[{index}].in_features: is {layer.in_features}, what comes in has {width}"
        width = layer.out_features
    if embedding.cut_from is not None:
        if not embedding.hidden_size < embedding.cut_from == width:
            yield (
                f"embedding.cut_from: is {embedding.cut_from}, must be the width {width} before the cut and above "
                f"embedding.hidden_size {embedding.hidden_size}"
            )
    elif embedding.hidden_size != width:
        yield f"embedding.hidden_size: is {embedding.hidden_size}, what the model makes has {width}"


def _pairing(manifest: Manifest) -> Iterator[str]:
    if manifest.pairing is not None:
        yield "pairing: belongs to a ranker that takes embedding tokens (embedding is set)"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if manifest.prompt.prefix:
        yield f"prompt.prefix: kind {NAME} has no prefix: must be empty"


def _queries(manifest: Manifest) -> Iterator[str]:
    if manifest.queries is not None and any(segment.text is not None for segment in manifest.prompt.item):
        yield "queries: as-items, and prompt.item has a text that says what an item is: must be null"


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {
        NAME: ManifestRules(
            frozenset({"encode"}),
            (_layers, _labels, _embedding, _widths, _pairing, _prompt, _queries),
            queries=True,
        )
    }
)
