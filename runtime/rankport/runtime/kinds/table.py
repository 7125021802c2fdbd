"""The kinds of models that there are: one explicit table."""

import os
from types import MappingProxyType

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import KindRules
from rankport.runtime.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.ranker.kind import RANKER

KINDS: tuple[Kind, ...] = (
    RANKER,
    ITEM_ENCODER,
)
RULES: KindRules = MappingProxyType({kind.name: kind.rules for kind in KINDS})


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Opens a bundle of whatever kind, strictly. Raises as `Bundle.open`."""
    return Bundle.open(path, RULES)


def kind_of(bundle: Bundle) -> Kind:
    """The kind of an opened bundle."""
    return next(kind for kind in KINDS if kind.name == bundle.manifest.kind)
