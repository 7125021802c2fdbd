"""SDK of rankport for Python. Names load on first use, so that a client never imports a runtime or torch.

`from rankport.sdk import *` gives those whose extras are installed.

Types of the names, for checkers and editors, are in the stub beside this file.
"""

from importlib import import_module
from typing import Any

from rankport.protos.installed import packages

__version__ = packages.VERSION

_HOMES = {
    "rankport.exporters.export": ("export",),
    "rankport.exporters.own_sets": ("export_set_ranker", "verify_set_ranker"),
    "rankport.exporters.own_towers": ("export_towers", "verify_towers"),
    "rankport.exporters.verify": ("verify",),
    "rankport.protos.errors": (
        "BackendError",
        "BundleError",
        "CheckpointError",
        "DeadlineExceeded",
        "InvalidRequest",
        "LimitExceeded",
        "MissingExtra",
        "NotFound",
        "Overloaded",
        "PairingError",
        "ParityError",
        "PermissionDenied",
        "QuotaExceeded",
        "RankportError",
        "RequestCancelled",
        "StoreError",
        "Unauthenticated",
        "Unavailable",
        "UnsupportedGpu",
    ),
    "rankport.protos.classes": ("ClassifyResult",),
    "rankport.protos.generation": (
        "GeneratedBeam",
        "GeneratedPart",
        "GenerateResult",
        "GenerateUsage",
        "Sampling",
        "SearchResult",
        "TokenLogprob",
    ),
    "rankport.protos.jobs": ("EncodeTask", "Job", "JobState"),
    "rankport.protos.priorities": ("priority",),
    "rankport.protos.ranking": ("Ranking",),
    "rankport.protos.messages.streamed": ("ScoreCall", "StreamedScore"),
    "rankport.protos.sets": ("SetRanking",),
    "rankport.protos.sparse": ("SparseRows",),
    "rankport.protos.tagging": ("Span", "TagResult", "WordTags"),
    "rankport.protos.types": (
        "EncodedText",
        "ItemStatus",
        "Key",
        "LookupResult",
        "ModelDescription",
        "ScoreResult",
        "Usage",
    ),
    "rankport.protos.versions": ("ModelAlias", "ModelVersion", "ModelVersions"),
    "rankport.runtime.bundle.sections.wide": ("WideFeature",),
    "rankport.runtime.config": ("EngineConfig",),
    "rankport.runtime.kinds.classifying": ("Classifier",),
    "rankport.runtime.kinds.generator.generator": ("Generator",),
    "rankport.runtime.kinds.generator.tries.trie": ("TokenTrie",),
    "rankport.runtime.kinds.item_encoder.item_encoder": ("ItemEncoder",),
    "rankport.runtime.kinds.ranker.ranker": ("Ranker",),
    "rankport.runtime.kinds.set_ranker.set_ranker": ("SetRanker",),
    "rankport.runtime.kinds.two_tower.towers": ("Towers",),
    "rankport.runtime.kinds.scorer": ("Scorer",),
    "rankport.runtime.kinds.tagger.tagger": ("Tagger",),
    "rankport.runtime.server.config": ("ServerConfig",),
    "rankport.runtime.server.server": ("Server",),
    "rankport.runtime.store.contract": ("TokenStore",),
    "rankport.runtime.store.opening": ("open_store",),
    "rankport.sdk.transport.access": ("Tls",),
    "rankport.sdk.aio_client": ("AsyncClient",),
    "rankport.sdk.client": ("Client",),
    "rankport.sdk.generating": ("WrittenText",),
    "rankport.sdk.membership.audit": ("audit_membership",),
    "rankport.sdk.membership.report": ("MembershipReport",),
    "rankport.sdk.offline": ("build", "encode"),
    "rankport.sdk.transport.request_ids": ("request_id",),
}

_EXTRAS = {  # what the modules of a home need
    "rankport.exporters.": ("export", "runtime"),
    "rankport.runtime.": ("runtime",),
    "rankport.sdk.membership.": ("runtime",),
    "rankport.sdk.offline": ("runtime",),
}


def _usable() -> list[str]:
    """Lists the names that load with what is installed: those that `from rankport.sdk import *` gives."""
    from rankport.protos.installed.extras import is_installed

    lacking = {extra for extra in ("export", "runtime") if not is_installed(extra)}
    left_out = tuple(start for start, extras in _EXTRAS.items() if lacking.intersection(extras))
    return sorted(name for home, names in _HOMES.items() if not home.startswith(left_out) for name in names)


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _usable()
    for home, names in _HOMES.items():
        if name in names:
            from rankport.protos.installed.extras import extras_named

            with extras_named(f"rankport.sdk.{name}"):
                value = getattr(import_module(home), name)
            globals()[name] = value  # the next access finds it without this function
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names)
