"""Rules of a cross-encoder's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules, Rule

NAME = "cross-encoder"


def _shape(manifest: Manifest) -> Iterator[str]:
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"
    if manifest.embedding is not None or manifest.pairing is not None:
        yield f"embedding, pairing: kind {NAME} takes texts alone: must be null"


def _labels(manifest: Manifest) -> Iterator[str]:
    if manifest.labels is None or manifest.labels.source != "classification_head":
        yield f"labels: kind {NAME} answers by a classification head: must be its outputs"
    score = manifest.score
    if score is None or score.kind == "cosine":
        yield f"score: kind {NAME} says probability or logit, and how it is made of the label logits"


def pair_rule(name: str) -> Rule:
    """Makes the rule of a kind's two texts: one field before, the item behind, each tokenized by itself."""

    def rule(manifest: Manifest) -> Iterator[str]:
        if manifest.pair is None:
            yield f"pair: kind {name} reads two texts together: must say how long they may be"
            return
        if len(manifest.prompt.fields) != 1:
            yield f"prompt.prefix: kind {name} has one first text, so one field: here {len(manifest.prompt.fields)}"
        segments = [*manifest.prompt.prefix, *manifest.prompt.item]
        if any(segment.joined for segment in segments):
            yield f"prompt: joined = true: kind {name} tokenizes its two texts apart: leave it out"
        limits = (manifest.limits.max_prefix_tokens, manifest.limits.max_item_tokens)
        if any(limit != manifest.pair.max_tokens for limit in limits):
            yield (
                f"limits: are {limits[0]} and {limits[1]}: kind {name} cuts both texts together, to pair.max_tokens "
                f"{manifest.pair.max_tokens}: state that for both"
            )

    return rule


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({"score"}), (_shape, _labels, pair_rule(NAME)))}
)
