"""One server of an engine and two fronts, which all tests of the folder share: they kill parts of it, and wait."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.servers.supervised import ONE_THREAD, supervised

TITLES = ["data engineer", "nurse", "senior machine operator", "chief cook"]


@pytest.fixture(scope="package")
def encoder(encoder_bundle: Bundle) -> Iterator[ItemEncoder]:
    with ItemEncoder.load(encoder_bundle, config=ONE_THREAD) as loaded:
        yield loaded


@pytest.fixture(scope="package")
def store(encoder: ItemEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The titles' tokens, by title."""
    path = tmp_path_factory.mktemp("store") / "tokens.lmdb"
    made = encoder.describe()
    spec = TokenSpec(made.embedding_tokens, made.hidden_size, made.embedding_dtype)
    with open_store(path, create=True) as opened:
        namespace = opened.namespace(encoder.fingerprint, spec, create=True)
        rows = encoder.encode(TITLES)
        namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in zip(TITLES, rows, strict=True)])
    return path


@pytest.fixture(scope="package")
def ranker(mix_bundle: Bundle, store: Path) -> Iterator[Ranker]:
    with Ranker.load(mix_bundle, store=store, config=ONE_THREAD) as loaded:
        yield loaded


@pytest.fixture(scope="package")
def server(
    mix_bundle: Bundle, encoder_bundle: Bundle, generator_bundle: Bundle, store: Path
) -> Iterator[Supervisor]:
    config = ServerConfig(
        port=0,
        http_port=0,
        fronts=2,
        grace_s=5.0,
        model_roots=(str(mix_bundle.path.parent),),
        observing=ObservingConfig(metrics_port=0, hung_process_s=120.0),  # longer than any test halts one
    )
    bundles = [f"mix={mix_bundle.path}", encoder_bundle.path, f"writer={generator_bundle.path}"]
    with supervised(*bundles, config=config, store=store) as running:
        yield running
