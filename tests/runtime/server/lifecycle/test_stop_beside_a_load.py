"""A stop while a bundle is loaded: it breaks the load off, waits for nothing, and leaves it the store that it reads."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle.load_threads import loads_go_on
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client
from support.engines import WAIT_S
from support.servers.reference_bundles import REFERENCE_RANKER, load_reference, reference_bundle
from support.servers.supervised import eventually


class Gate:
    """Load of a bundle that waits, if it is version 2, until it is let go on."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.kind = replace(REFERENCE_RANKER, load=self._load, reads_tokens=lambda _: False)

    def _load(self, bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Ranker:
        if bundle.manifest.version == "2":
            self.begun.set()
            assert self.open.wait(WAIT_S)
        return load_reference(bundle)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()
    eventually(lambda: not loads_go_on())


def test_a_stop_waits_for_no_load_which_keeps_the_store_open(gate: Gate, tmp_path: Path) -> None:
    for version in "12":
        reference_bundle(tmp_path / "root" / version, "jobs", version, int(version))
    open_store(tmp_path / "store", create=True).close()
    roots = (str(tmp_path / "root"),)
    config = ServerConfig(port=0, grace_s=WAIT_S, model_roots=roots)
    with ModelLoader.opened(tmp_path / "store", DEFAULTS, [gate.kind], roots=roots) as loader:
        server = Server(loader.load_all([f"{roots[0]}/1"]), config, loader).start()
        with Client(server.address, timeout_s=WAIT_S) as client, ThreadPoolExecutor(1) as calling:
            loading = calling.submit(client.admin.load, "2")
            assert gate.begun.wait(WAIT_S)
            server.stop()
            with pytest.raises(
                Unavailable, match="the server is stopping; load it when it has started again"
            ):
                loading.result(WAIT_S)
    assert loads_go_on()
    assert loader.store is not None
    assert loader.store.fingerprints() == {}
    loader.store.close()
