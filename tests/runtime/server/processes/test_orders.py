"""Orders of who administers the server reach all fronts; a front that is started again has what the others have."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.messages import wire
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.sdk import Client
from support.servers.callers import callers, ended
from support.servers.supervised import eventually

ITEMS = ["nurse", "welder", "chief cook"]


def scored_by_all(server: Supervisor, model: str, connections: int = 8) -> list[np.ndarray]:
    """Scores over so many connections, which fronts take by chance."""
    request, scores = wire.score_request(model, "head nurse", ITEMS, "error", "skip"), []
    for _ in range(connections):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            stub = pb_grpc.ScoringStub(channel)  # type: ignore[no-untyped-call]
            scores.append(wire.score_result(stub.Score(request, timeout=30)).scores)
    return scores


def test_a_version_that_one_front_is_told_to_load_is_served_by_all(
    server: Supervisor, mix_bundle: Bundle, ranker: Ranker
) -> None:
    expected = ranker.score("head nurse", ITEMS).scores
    with Client(server.address, timeout_s=60) as client:
        loaded = client.admin.load(str(mix_bundle.path), name="second", version="7", alias="prod")
        assert (loaded.model, loaded.state) == ("second@7", "ready")
        for model in ("second", "prod", "second@7"):
            for scores in scored_by_all(server, model):
                np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
        with pytest.raises(InvalidRequest, match="second@7 is ready already"):
            client.admin.load(str(mix_bundle.path), name="second", version="7")
        eventually(lambda: server.all_answer)  # one that was starting as the order came is begun anew
        before = server.front_pids
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: server.front_pids != before)
        eventually(lambda: server.all_answer)
        for scores in scored_by_all(server, "prod"):
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    with Client(server.address, timeout_s=60) as client:
        client.admin.set_alias("prod", "mix@" + ranker.describe().version)
        assert client.admin.unload("second@7").state == "draining"
        client.admin.remove_alias("prod")
    for _ in range(8):
        with Client(server.address, timeout_s=60) as client:
            assert {version.name for version in client.admin.versions().versions} == {
                "mix",
                "tiny-encoder",
                "writer",
            }


def test_an_order_that_no_front_can_take_changes_nothing(
    server: Supervisor, mix_bundle: Bundle, tmp_path: Path
) -> None:
    pids = server.front_pids
    outside = shutil.copytree(mix_bundle.path, tmp_path / "outside")
    with Client(server.address, timeout_s=60) as client:
        with pytest.raises(InvalidRequest, match="is no directory below"):
            client.admin.load(str(outside))
        with pytest.raises(InvalidRequest):
            client.admin.set_alias("a@b", "mix@1")
    assert server.front_pids == pids


def test_an_alias_that_is_swapped_under_traffic_loses_no_call(server: Supervisor, mix_bundle: Bundle) -> None:
    with Client(server.address, timeout_s=60) as client:
        client.admin.load(str(mix_bundle.path), name="swapped", version="0", alias="live")
        with callers(server.address, 4) as calling, ThreadPoolExecutor(1) as pool:
            swapping = pool.submit(swap, client, str(mix_bundle.path))
            codes = []
            while not swapping.done():
                codes += [ended(call).code for call in calling.begin(ITEMS, model="live")]
            swapping.result()
        client.admin.remove_alias("live")
        client.admin.unload("swapped@2")
    assert set(codes) == {grpc.StatusCode.OK}


def swap(client: Client, path: str) -> None:
    for version in ("1", "2"):
        client.admin.load(path, name="swapped", version=version, alias="live", replace=True)
