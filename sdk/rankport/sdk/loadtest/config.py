"""Knobs of a load test."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.protos.priorities import Priority, checked_priority
from rankport.runtime.options import check_ranges

Arrivals = Literal["poisson", "constant", "fixed"]
"""Requests come at random, as those of many users do; of several clients, each at a constant rate; or evenly."""


_CLIENTS = 16
_MOST_REQUESTS = 10**8  # each takes some 50 bytes of this machine


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """Knobs of how requests arrive. Raises `InvalidRequest` for a value out of range."""

    rate: float = field(default=10.0, metadata=flag("Requests a second.", least=0.001, most=1e6))
    duration_s: float = field(
        default=10.0, metadata=flag("Seconds that are measured, at each rate.", least=0.05, most=1e6)
    )
    warm_up_s: float = field(
        default=1.0, metadata=flag("Seconds before, at the same rate, that are not.", least=0, most=1e6)
    )
    arrivals: Arrivals = field(
        default="poisson",
        metadata=flag(
            "At random, as those of many users; each client at a constant rate from a phase of its own on; or all at "
            "even distances."
        ),
    )
    clients: int = field(
        default=_CLIENTS,
        metadata=flag("Clients that share the rate of constant arrivals.", least=1, most=1_000_000),
    )
    timeout_s: float = field(
        default=10.0, metadata=flag("Seconds in which a request must be answered.", least=0.001, most=1e6)
    )
    connections: int = field(default=4, metadata=flag("Connections that requests take in turn.", least=1))
    # Beyond it the machine that loads would be measured.
    max_open: int = field(
        default=10_000,
        metadata=flag("Requests without an answer at a time; those due beyond are not sent.", least=1),
    )
    priority: Priority = field(
        default="interactive", metadata=flag("Class of the requests: background gives way to interactive.")
    )
    background_share: float = field(
        default=0.0,
        metadata=flag("Share of the requests that are in the background, drawn at random.", least=0, most=1),
    )
    seed: int = field(default=0, metadata=flag("Seed of arrivals and draws.", least=0))

    def __post_init__(self) -> None:
        check_ranges(self)
        checked_priority(self.priority)
        if self.arrivals not in get_args(Arrivals):
            raise InvalidRequest(f"arrivals is {self.arrivals!r}: it must be poisson, constant or fixed")
        seconds = self.warm_up_s + self.duration_s
        if self.rate * seconds > _MOST_REQUESTS:
            raise InvalidRequest(
                f"rate is {self.rate:g} and duration_s with warm_up_s {seconds:g}: that is {self.rate * seconds:,.0f} "
                f"requests, and a test has {_MOST_REQUESTS:,} at most"
            )
        if self.arrivals != "constant" and self.clients != _CLIENTS:
            raise InvalidRequest(f"clients is {self.clients}: they share the rate of constant arrivals alone")
        if self.priority == "background" and self.background_share:
            raise InvalidRequest(
                f"background_share is {self.background_share}: all requests are in the background, leave it out"
            )


@dataclass(frozen=True, slots=True)
class Aim:
    """Aim of a search: what a rate must keep to."""

    p99_s: float  # of the answered requests
    max_failed: float = 0.001  # share of the others
    precision: float = 0.05  # of the rate found

    def __post_init__(self) -> None:
        if not 0 < self.p99_s < math.inf:
            raise InvalidRequest(f"p99 is {self.p99_s} s: it must be above 0")


DEFAULTS = LoadConfig()
