"""The kinds of models that there are: one explicit table."""

import os
from collections.abc import Sequence
from types import MappingProxyType

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import KindRules
from rankport.runtime.kinds.cross_encoder.kind import CROSS_ENCODER
from rankport.runtime.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.ranker.kind import RANKER

KINDS: tuple[Kind, ...] = (
    RANKER,
    ITEM_ENCODER,
    CROSS_ENCODER,
)


def rules_of(kinds: Sequence[Kind] = KINDS) -> KindRules:
    """Gives the rules of manifests, by kind."""
    return MappingProxyType({kind.name: kind.rules for kind in kinds})


def open_bundle(path: str | os.PathLike[str], kinds: Sequence[Kind] = KINDS) -> Bundle:
    """Opens a bundle of any of the kinds, strictly. Raises as `Bundle.open`."""
    return Bundle.open(path, rules_of(kinds))


def kind_of(bundle: Bundle, kinds: Sequence[Kind] = KINDS) -> Kind:
    """Finds the kind of a bundle that was opened as one of them."""
    return next(kind for kind in kinds if kind.name == bundle.manifest.kind)
