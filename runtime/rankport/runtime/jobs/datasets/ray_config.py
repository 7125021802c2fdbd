"""Knobs of a job on Ray. Imports little."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.protos.wording import counted
from rankport.runtime.options import check_ranges

READER_CPUS = 0.5
"""CPUs of a task that reads."""


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

    def lack(self, resources: Mapping[str, float]) -> str:
        """Says what a cluster of such resources lacks for the fewest actors and a reader; "" if nothing.

        Ray itself would wait for it, and say nothing.
        """
        actors = counted(self.min_actors, "actor")
        for name, each, readers, flag_name in (
            ("CPU", self.actor_cpus, READER_CPUS, "--actor-cpus"),
            ("GPU", self.actor_gpus, 0.0, "--actor-gpus"),
        ):
            needed, there = self.min_actors * each + readers, resources.get(name, 0.0)
            if needed > there:
                beside = f", and {readers:g} for who reads," if readers else ""
                return (
                    f"{actors} of {each:g} {name}s{beside} need {needed:g} {name}s, and the Ray cluster has "
                    f"{there:g}: lower min_actors (--min-actors) or {flag_name.removeprefix('--').replace('-', '_')} "
                    f"({flag_name})"
                )
        return ""
