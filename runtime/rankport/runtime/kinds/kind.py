"""`Kind`: a kind of models as the table lists it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.capabilities import Capability, Model, OfflineEncoder
from rankport.runtime.store.contract import TokenStore


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table. What it loads says its capabilities and describes itself."""

    name: str  # in manifests, flags and replies
    rules: ManifestRules
    load: Callable[[Bundle, EngineConfig, TokenStore | None], Model]
    # Whether its items may be keys of a token store.
    reads_tokens: Callable[[Bundle], bool] = lambda bundle: False
    # Why it is served without keys beside models that read a store, which it may do without; "": it reads that store.
    without_keys: Callable[[Bundle, TokenStore], str] = lambda bundle, store: ""
    # Loads it for a job that fills a store, on the very device that is asked for; None: it makes nothing to store.
    load_encoder: Callable[[Bundle, EngineConfig], OfflineEncoder] | None = None


def other_use(bundle: Bundle, model: Model, lacking: str) -> str:
    """Says what a bundle does that was loaded for something else, and what takes it."""
    does = sorted(model.capabilities)
    way_out = next((_WAYS_OUT[word] for word in does if word in _WAYS_OUT), "load it by its kind")
    said = " and ".join(does).replace("_", " ")
    return f"bundle {bundle.manifest.name!r} of kind {bundle.manifest.kind} {said}, and {lacking}: {way_out}"


_WAYS_OUT: Mapping[Capability, str] = {
    "classifies": "Classifier.load (rankport classify) takes it",
    "encodes": "Towers ranks by the cosine of what it makes, ItemEncoder gives it",
    "encodes_sparse": "Towers gives the weights of a text, and ranks by their product",
    "generates": "Generator.load (rankport generate) takes it",
    "ranks_sets": "SetRanker.load (rankport rank) takes it",
    "scores": "Scorer.load (rankport score) takes it",
    "tags": "Tagger.load (rankport tag) takes it",
}
