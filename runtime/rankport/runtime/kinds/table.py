"""The kinds of models that there are: one explicit table."""

import os
from collections.abc import Sequence
from types import MappingProxyType

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import KindRules
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import OfflineEncoder
from rankport.runtime.kinds.classifier.kind import CLASSIFIER
from rankport.runtime.kinds.cross_encoder.kind import CROSS_ENCODER
from rankport.runtime.kinds.generator.kind import GENERATOR, SEQ2SEQ
from rankport.runtime.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.list_ranker.kind import LIST_RANKER
from rankport.runtime.kinds.ranker.kind import RANKER
from rankport.runtime.kinds.set_ranker.kind import SET_RANKER
from rankport.runtime.kinds.tagger.kind import TAGGER
from rankport.runtime.kinds.two_tower.kind import TWO_TOWER

KINDS: tuple[Kind, ...] = (
    RANKER,
    ITEM_ENCODER,
    CROSS_ENCODER,
    CLASSIFIER,
    TWO_TOWER,
    TAGGER,
    GENERATOR,
    SEQ2SEQ,
    SET_RANKER,
    LIST_RANKER,
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


def load_encoder(
    path: str | os.PathLike[str], config: EngineConfig = DEFAULTS, kinds: Sequence[Kind] = KINDS
) -> OfflineEncoder:
    """Loads what makes the tokens of a store. Raises InvalidRequest for a bundle that makes none, else as its kind."""
    bundle = open_bundle(path, kinds)
    kind = kind_of(bundle, kinds)
    if kind.load_encoder is None:
        able = " or ".join(row.name for row in kinds if row.load_encoder is not None)
        raise InvalidRequest(
            f"bundle {bundle.manifest.name!r} of kind {kind.name} makes no tokens to store: give one of kind {able}"
        )
    return kind.load_encoder(bundle, config)
