"""Keys served from a snapshot: as from LMDB, through a swap, in int8; and once they are published."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import NotFound, PairingError
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.config import DEFAULTS
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.copy_ends import NamespaceSource, snapshot_target
from rankport.runtime.store.copying import copy_tokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk import Client
from support.servers.reference_bundles import REFERENCE_RANKER, load_reference, reference_bundle
from support.servers.serving import LOCAL
from support.small_rankers import ENCODER

PREFIX = "red shoes"
KEYS = [f"item {number}" for number in range(20)]
SPEC = TokenSpec(2, 8, "float16")


def tokens_of(seed: int) -> NDArray[np.float16]:
    return np.random.default_rng(seed).normal(size=(len(KEYS), 2, 8)).astype(np.float16)


def fill(path: Path, seed: int, *, hidden: bool = False) -> Path:
    """Makes a store in LMDB."""
    rows = tokens_of(seed)
    with open_store(path, create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True, filling=hidden)
        namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in zip(KEYS, rows, strict=True)])
    return path


def snapshot(path: Path, seed: int, spec: TokenSpec = SPEC) -> Path:
    """Makes a snapshot, in the place of one that is there."""
    source = fill(path.with_name(f"lmdb of {path.name} {seed}"), seed)
    with open_store(source, read_only=True) as store:
        copied = NamespaceSource(store.namespace(ENCODER), str(source))
        copy_tokens(copied, snapshot_target(path, copied, spec))
    return path


def test_scores_by_key_are_those_of_lmdb_and_follow_a_swap_under_the_server(tmp_path: Path) -> None:
    bundle = open_bundle(reference_bundle(tmp_path / "bundle", "jobs", "1", 1))
    path = snapshot(tmp_path / "tokens", 1)
    items = [Key(key) for key in KEYS]
    with (
        open_store(path, read_only=True) as store,
        load_reference(bundle, store) as ranker,
        Server({"jobs": ranker}, LOCAL) as server,
        Client(server.address, timeout_s=20.0) as client,
    ):
        for seed in (1, 2):
            if seed == 2:
                snapshot(path, 2)
            found = client.lookup([*KEYS, "absent"])
            np.testing.assert_array_equal(found.embeddings[:-1], tokens_of(seed))
            assert found.status[-1] is ItemStatus.NOT_FOUND
            scored = client.score(PREFIX, items)
            with (
                open_store(fill(tmp_path / f"again {seed}", seed), read_only=True) as lmdb,
                load_reference(bundle, lmdb) as same,
            ):
                np.testing.assert_array_equal(scored.scores, same.score(PREFIX, items).scores)
            with pytest.raises(NotFound, match="no tokens of key 'absent'"):
                client.score(PREFIX, [Key("absent")], on_missing="fail")


def test_int8_snapshot_is_served_as_what_int8_makes_of_the_tokens(tmp_path: Path) -> None:
    bundle = open_bundle(reference_bundle(tmp_path / "bundle", "jobs", "1", 1))
    spec = replace(SPEC, dtype="int8")
    with (
        open_store(snapshot(tmp_path / "tokens", 1, spec), read_only=True) as store,
        load_reference(bundle, store) as ranker,
    ):
        by_key = ranker.score(PREFIX, [Key(key) for key in KEYS]).scores
        given = ranker.score(PREFIX, list(spec.as_read(tokens_of(1)))).scores
    np.testing.assert_array_equal(by_key, given)


PUBLISH = (
    "import sys; from rankport.runtime.store.opening import open_store\n"
    "with open_store(sys.argv[1]) as store: store.publish(sys.argv[2])"
)


def test_running_server_loads_a_ranker_once_the_tokens_of_its_encoder_are_published(tmp_path: Path) -> None:
    path = fill(tmp_path / "tokens", 1, hidden=True)
    bundle = open_bundle(reference_bundle(tmp_path / "bundle", "jobs", "2", 1), (REFERENCE_RANKER,))
    with ModelLoader.opened(path, DEFAULTS, (REFERENCE_RANKER,)) as loader:
        with pytest.raises(
            PairingError, match=rf"'jobs': the tokens of encoder {ENCODER} are not published yet"
        ):
            loader.load(bundle)
        subprocess.run([sys.executable, "-c", PUBLISH, str(path), ENCODER], check=True)
        ranker = loader.load(bundle)
        assert len(ranker.score(PREFIX, [Key(key) for key in KEYS]).scores) == len(KEYS)  # type: ignore[attr-defined]
