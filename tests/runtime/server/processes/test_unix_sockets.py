"""Fronts on unix sockets: one each, which a client takes together, and takes again when a front is back."""

import os
import signal
from pathlib import Path

import numpy as np

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.config import ServerConfig
from rankport.sdk import Client
from support.servers.supervised import eventually, supervised

ITEMS = ["nurse", "welder"]


def test_each_front_has_a_socket_and_a_client_asks_all_in_turn(
    mix_bundle: Bundle, ranker: Ranker, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    config = ServerConfig(host=f"unix:{path}", fronts=2, grace_s=float("inf"))  # and stops all the same
    expected = ranker.score("head nurse", ITEMS).scores
    with supervised(f"mix={mix_bundle.path}", config=config) as server:
        assert server.address == f"unix:{path}.0,{path}.1"
        with Client(server.address, "mix", timeout_s=30) as both:
            before = server.front_pids
            os.kill(before[0], signal.SIGKILL)
            for _ in range(4):
                np.testing.assert_allclose(both.score("head nurse", ITEMS).scores, expected, atol=1e-5)
        eventually(lambda: server.all_answer and server.front_pids[0] != before[0])
        for index in (0, 1):
            with Client(f"unix:{path}.{index}", "mix", timeout_s=30) as client:
                np.testing.assert_allclose(client.score("head nurse", ITEMS).scores, expected, atol=1e-5)
    assert not list(tmp_path.iterdir())
