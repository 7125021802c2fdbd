"""Rules of a generator's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules

NAME = "generator"


def _layers(manifest: Manifest) -> Iterator[str]:
    if not manifest.shape.layers:
        yield f"shape.layers: kind {NAME} must list its attention layers"


def _generation(manifest: Manifest) -> Iterator[str]:
    if manifest.generation is None:
        yield f"generation: kind {NAME} must say what ends a text"


def _nothing_else(manifest: Manifest) -> Iterator[str]:
    for name in ("labels", "embedding", "pairing", "head", "pair"):
        if getattr(manifest, name) is not None:
            yield f"{name}: kind {NAME} writes text: must be null"


def _score(manifest: Manifest) -> Iterator[str]:
    if manifest.score is not None and manifest.score.kind != "log_likelihood":
        yield f"score.kind: kind {NAME} gives a log_likelihood, or no score: not {manifest.score.kind}"


def _prompt(manifest: Manifest) -> Iterator[str]:
    if len(manifest.prompt.item) != 1:
        yield f"prompt.item: what kind {NAME} writes comes last: must be one segment, item = true"


def _chat(manifest: Manifest) -> Iterator[str]:
    if manifest.chat is not None and manifest.prompt.fields != ("user",):
        yield "prompt: of a bundle with chat it must have one field, user"


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {
        NAME: ManifestRules(
            frozenset({"prefix", "decode"}), (_layers, _generation, _nothing_else, _score, _prompt, _chat)
        )
    }
)
