"""Rules of a cross-encoder's manifest."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.kinds.pair_rule import pair_rule

NAME = "cross-encoder"


def _shape(manifest: Manifest) -> Iterator[str]:
    if manifest.shape.layers:
        yield f"shape.layers: kind {NAME} keeps no KV: must be empty"
    if manifest.embedding is not None or manifest.pairing is not None:
        yield f"embedding, pairing: kind {NAME} takes texts alone: must be null"


def _labels(manifest: Manifest) -> Iterator[str]:
    if manifest.labels is None or manifest.labels.source not in ("classification_head", "lm_head"):
        yield f"labels: kind {NAME} answers by a classification head, or by tokens of an LM head: must be one's outputs"
    score = manifest.score
    if score is None or score.kind == "cosine":
        yield f"score: kind {NAME} says probability or logit, and how it is made of the label logits"


RULES: Mapping[str, ManifestRules] = MappingProxyType(
    {NAME: ManifestRules(frozenset({"score"}), (_shape, _labels, pair_rule(NAME)))}
)
