"""`ServerState`: what a server has now, as its pages and metrics show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankport.protos.priorities import Priority
from rankport.protos.types import ModelDescription
from rankport.runtime.kinds.capabilities import ModelCounts


@dataclass(frozen=True, slots=True)
class KnownScores:
    """Counters of a cache of scores since its start, in items, and what it has now."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class ServerState:
    """Snapshot of a server."""

    pending_requests: int
    pending_bytes: int
    open_calls: int
    overloads: int  # requests refused for overload since the start
    saturated_s: float
    reasons: Mapping[str, str]  # why models cannot take requests, "" for all of them
    models: Mapping[str, ModelDescription]
    counts: Mapping[str, ModelCounts]
    scores: KnownScores = KnownScores()
    refusals: Mapping[tuple[Priority, str], int] = field(default_factory=dict)  # by class and reason
