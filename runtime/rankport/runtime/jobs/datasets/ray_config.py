"""Knobs of a job on Ray. Imports little."""

from dataclasses import dataclass, field

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.options import check_ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class RayConfig:
    """Cluster, and what an actor is given of it. Raises `InvalidRequest` for a value out of range."""

    address: str | None = field(
        default=None,
        metadata=flag(
            "Ray cluster: auto for the one of this machine, ray://HOST:PORT, or HOST:PORT. [default: one of its own]",
            name="--ray-address",
            metavar="ADDRESS",
        ),
    )
    min_actors: int = field(default=1, metadata=flag("Actors that hold the encoder, at least.", least=1))
    max_actors: int = field(default=1, metadata=flag("... and at most, as the cluster has room.", least=1))
    actor_cpus: float = field(default=1.0, metadata=flag("CPUs of an actor.", least=0))
    actor_gpus: float = field(default=0.0, metadata=flag("GPUs of an actor.", least=0))
    read_rows: int = field(
        default=65_536,
        metadata=flag("Rows of a file that one task reads: a large one is read by several.", least=1),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.max_actors < self.min_actors:
            raise InvalidRequest(
                f"max_actors is {self.max_actors}, and min_actors {self.min_actors}: give as many at least"
            )
