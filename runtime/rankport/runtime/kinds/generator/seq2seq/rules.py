"""Rules of the manifest of an encoder-decoder that writes."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules

NAME = "seq2seq"


def _layers(manifest: Manifest) -> Iterator[str]:
    if not manifest.shape.layers:
        yield f"shape.layers: kind {NAME} must list its decoder's attention layers"


def _decoding(manifest: Manifest) -> Iterator[str]:
    if manifest.generation is None or manifest.generation.decoding is None:
        yield f"generation.decoding: kind {NAME} must say what a text begins behind"
        return
    if manifest.generation.min_tokens:
        yield f"generation.min_tokens: kind {NAME} says it in generation.decoding: must be 0"
    decoding, vocabulary = manifest.generation.decoding, manifest.shape.vocab_size
    for name in ("start_id", "first_id", "last_id"):
        token = getattr(decoding, name)
        if token is not None and token >= vocabulary:
            yield f"generation.decoding.{name}: {token} is out of range, must be 0 to {vocabulary - 1}"


def _nothing_else(manifest: Manifest) -> Iterator[str]:
    for name in ("labels", "score", "embedding", "pairing", "head", "pair"):
        if getattr(manifest, name) is not None:
            yield f"{name}: kind {NAME} writes text: must be null"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if len(manifest.prompt.item) != 1:
        yield f"prompt.item: what kind {NAME} writes is apart: must be one segment, item = true"


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({"encode", "decode"}), (_layers, _decoding, _nothing_else, _prompt))}
)
