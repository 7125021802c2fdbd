"""Knobs of a job on Ray: what a cluster lacks for them is told, as Ray would wait for it in silence."""

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.datasets.ray_config import RayConfig

TWO_CORES = {"CPU": 2.0, "memory": 1e9}


@pytest.mark.parametrize(
    "config", [RayConfig(), RayConfig(actor_cpus=1.5), RayConfig(min_actors=3, max_actors=3, actor_cpus=0.5)]
)
def test_what_fits_lacks_nothing(config: RayConfig) -> None:
    assert config.lack(TWO_CORES) == ""


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            RayConfig(actor_cpus=2),
            "1 actor of 2 CPUs, and 0.5 for who reads, need 2.5 CPUs, and the Ray cluster has 2: lower min_actors "
            "(--min-actors) or actor_cpus (--actor-cpus)",
        ),
        (
            RayConfig(min_actors=2, max_actors=4),
            "2 actors of 1 CPUs, and 0.5 for who reads, need 2.5 CPUs, and the Ray cluster has 2: lower min_actors "
            "(--min-actors) or actor_cpus (--actor-cpus)",
        ),
        (
            RayConfig(actor_gpus=1),
            "1 actor of 1 GPUs need 1 GPUs, and the Ray cluster has 0: lower min_actors (--min-actors) or actor_gpus "
            "(--actor-gpus)",
        ),
    ],
)
def test_what_a_cluster_lacks_is_told(config: RayConfig, says: str) -> None:
    assert config.lack(TWO_CORES) == says


def test_fewer_actors_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_actors is 1, and min_actors 2"):
        RayConfig(min_actors=2)
