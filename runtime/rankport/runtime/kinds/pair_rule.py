"""Rule of the kinds that read two texts in one sequence."""

from collections.abc import Iterator

from rankport.runtime.bundle.manifest import Manifest, Pair
from rankport.runtime.bundle.manifest_rules import Rule


def pair_rule(name: str) -> Rule:
    """Makes the rule of a kind's two texts: one field before, the item behind, each tokenized by itself."""

    def rule(manifest: Manifest) -> Iterator[str]:
        if manifest.pair is None:
            yield f"pair: kind {name} reads two texts together: must say how long they may be"
            return
        if manifest.pair.cut == "each":
            yield from _each_cut(manifest, manifest.pair, name)
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


def _each_cut(manifest: Manifest, pair: Pair, name: str) -> Iterator[str]:
    """Follows texts whose prompt is any, each within a limit of its own."""
    limits = manifest.limits
    if limits.max_prefix_tokens + limits.max_item_tokens != pair.max_tokens:
        yield (
            f"pair.max_tokens: is {pair.max_tokens}, and kind {name} cuts each text to its own limit (cut is each): "
            f"must be {limits.max_prefix_tokens} + {limits.max_item_tokens} of limits"
        )
