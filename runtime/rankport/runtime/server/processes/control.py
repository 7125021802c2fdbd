"""Words that the supervisor and its children say to each other, over a connection that each child has of its own.

Its end is how one notices that the other is gone. What is said was made by this program, never by a client.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rankport.protos.errors import RankportError
from rankport.protos.types import ModelDescription
from rankport.protos.versions import ModelAlias, ModelVersion
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.fronts import Ports
from rankport.runtime.server.lifecycle.orders import AdminOrder


@dataclass(frozen=True, slots=True)
class Logging:
    """Log of a child."""

    json_log: bool
    name: str  # of the child


@dataclass(frozen=True, slots=True)
class EngineOrders:
    """Orders of an engine's process."""

    path: str  # of its socket
    config: EngineConfig  # of the one device
    store: str | None  # whose tokens stay on the device; None: none do
    frozen: bool
    hopeless_pass_s: float  # in one pass, after which this process ends; 0: never
    # As of a server: threads that read messages are beside the one of the device.
    switch_interval_s: float | None
    logging: Logging


@dataclass(frozen=True, slots=True)
class FrontOrders:
    """Orders of a front's process."""

    bundles: tuple[str, ...]
    store: str | None
    frozen: bool
    write_back: bool
    server: ServerConfig
    engine: EngineConfig
    logging: Logging


@dataclass(frozen=True, slots=True)
class Started:
    """From a child: it answers."""

    ports: Ports | None = None
    models: tuple[ModelDescription, ...] = ()
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True)
class NotStarted:
    """From a child: it ends, and why."""

    error: RankportError


@dataclass(frozen=True, slots=True)
class Stop:
    """To a child: end in good order. `grace_s`: None as its settings say."""

    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """From a front: it has stopped, and how its calls ended."""

    calls: Mapping[str, int]


Changed = ModelVersion | ModelAlias | RankportError
"""Outcome of an order."""


@dataclass(frozen=True, slots=True)
class AskPages:
    """From a front: somebody asks for the metrics of all."""

    number: int


@dataclass(frozen=True, slots=True)
class Pages:
    """To the front that asked: what the others have, and the supervisor of each, by their names."""

    number: int
    pages: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class GivePage:
    """To a front: say your metrics."""

    number: int


@dataclass(frozen=True, slots=True)
class Page:
    """From a front: its metrics."""

    number: int
    page: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """From a front: somebody gave it an order, which is for all."""

    number: int
    order: AdminOrder


@dataclass(frozen=True, slots=True)
class Told:
    """To the front that asked: what became of it."""

    number: int
    changed: Changed


@dataclass(frozen=True, slots=True)
class Take:
    """To a front: do this, here alone."""

    number: int
    order: AdminOrder


@dataclass(frozen=True, slots=True)
class Took:
    """From a front: what became of it there."""

    number: int
    changed: Changed
