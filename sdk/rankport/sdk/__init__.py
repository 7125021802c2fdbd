"""The Python SDK of rankport. Names load on first use, so that a client never imports a runtime or torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankport.exporters.export import export
    from rankport.protos.errors import (
        BackendError,
        BundleError,
        CheckpointError,
        DeadlineExceeded,
        InvalidRequest,
        LimitExceeded,
        NotFound,
        Overloaded,
        PairingError,
        ParityError,
        RankportError,
        RequestCancelled,
        StoreError,
        Unavailable,
    )
    from rankport.protos.types import EncodedText, ItemStatus, Key, ModelDescription, ScoreResult, Usage
    from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
    from rankport.runtime.kinds.ranker.ranker import Ranker
    from rankport.runtime.store.store import TokenStore
    from rankport.sdk.aio_client import AsyncClient
    from rankport.sdk.client import Client

_HOMES = {
    "rankport.exporters.export": ("export",),
    "rankport.protos.errors": (
        "BackendError",
        "BundleError",
        "CheckpointError",
        "DeadlineExceeded",
        "InvalidRequest",
        "LimitExceeded",
        "NotFound",
        "Overloaded",
        "PairingError",
        "ParityError",
        "RankportError",
        "RequestCancelled",
        "StoreError",
        "Unavailable",
    ),
    "rankport.protos.types": ("EncodedText", "ItemStatus", "Key", "ModelDescription", "ScoreResult", "Usage"),
    "rankport.runtime.kinds.item_encoder.item_encoder": ("ItemEncoder",),
    "rankport.runtime.kinds.ranker.ranker": ("Ranker",),
    "rankport.runtime.store.store": ("TokenStore",),
    "rankport.sdk.aio_client": ("AsyncClient",),
    "rankport.sdk.client": ("Client",),
}

__all__ = [
    "AsyncClient",
    "BackendError",
    "BundleError",
    "CheckpointError",
    "Client",
    "DeadlineExceeded",
    "EncodedText",
    "InvalidRequest",
    "ItemEncoder",
    "ItemStatus",
    "Key",
    "LimitExceeded",
    "ModelDescription",
    "NotFound",
    "Overloaded",
    "PairingError",
    "ParityError",
    "Ranker",
    "RankportError",
    "RequestCancelled",
    "ScoreResult",
    "StoreError",
    "TokenStore",
    "Unavailable",
    "Usage",
    "export",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value  # the next access finds it without this function
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
