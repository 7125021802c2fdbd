"""Statements of a bundle that a proof of numbers cannot see: names of outputs and features, and what a score is."""

from rankport.exporters.kinds.two_tower.facts import TowerFacts
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Manifest


def require_stated(manifest: Manifest, facts: TowerFacts) -> None:
    """Raises ParityError naming the field in which a bundle says otherwise than its towers."""
    labels, score, embedding = manifest.labels, manifest.score, manifest.embedding
    assert labels is not None
    assert embedding is not None
    limits = manifest.limits
    for field, stated, own in (
        ("wide", tuple(manifest.wide), facts.wide),
        ("labels.names", tuple(labels.names), facts.outputs),
        ("labels.ids", tuple(labels.ids), tuple(range(len(facts.outputs)))),
        ("labels.positive", labels.positive, facts.positive),
        ("score", score, facts.score),
        ("embedding.hidden_size", embedding.hidden_size, facts.width),
        ("embedding.form", embedding.form, "vocabulary" if facts.sparse else "dense"),
        ("embedding.tokens", embedding.tokens, facts.vectors(limits)["item"]),
    ):
        if stated != own:
            raise ParityError(f"{field}: is {stated}, the towers say {own}")
    for field, limit, most in (
        ("limits.max_prefix_tokens", limits.max_prefix_tokens, facts.max_query_tokens),
        ("limits.max_item_tokens", limits.max_item_tokens, facts.max_item_tokens),
    ):
        if limit > most:
            raise ParityError(f"{field}: is {limit}, the towers read {most} tokens")
