"""A job on two nodes, one of which is killed."""

import threading
from pathlib import Path

import pytest

from rankport.runtime.jobs.datasets.ray_config import RayConfig
from rankport.runtime.jobs.datasets.ray_job import run_ray_job
from support.effort import FACTOR
from support.jobs.dataset_jobs import (
    RAY_WARNS,
    ROWS_A_FILE,
    booked,
    in_one_process,
    stored,
    target,
    texts_of,
    write_files,
)

ray = pytest.importorskip("ray")
pytestmark = RAY_WARNS


@pytest.mark.skipif(FACTOR == 1, reason="a cluster of two nodes: make test-full")
def test_a_node_lost_midway_costs_at_most_what_it_had_not_finished(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    files, out, book = write_files(tmp_path, 4), tmp_path / "out", tmp_path / "book"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    lost = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    killed = threading.Event()

    def kill(_: object) -> None:
        if not killed.is_set() and texts_of(book) > ROWS_A_FILE:
            cluster.remove_node(lost, allow_graceful=False)
            killed.set()

    try:
        config = RayConfig(min_actors=2, max_actors=2)
        report = run_ray_job(booked(book, 0.05), target(out), files, config, on_progress=kill)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed.is_set()
    assert stored(out) == in_one_process(tmp_path, files)
    assert report.rows_read == 4 * ROWS_A_FILE
    assert texts_of(book) <= 1.1 * (report.encoded + report.unchanged)
