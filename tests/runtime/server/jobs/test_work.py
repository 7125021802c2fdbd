"""Which stores a job may write: those below the roots, and the server's own where it writes too."""

from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.server.jobs.work import Places
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.sdk.store_copies import copy_store
from support.servers.redis_server import redis_server
from support.token_samples import ENCODER, HASH, SPEC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty store below the root `tmp_path`."""
    with open_store(tmp_path / "own", create=True) as store:
        store.namespace(ENCODER, SPEC, create=True)
    return tmp_path / "own"


def test_the_servers_own_store_is_lent_by_any_of_its_names(path: Path, tmp_path: Path) -> None:
    with open_store(path) as own:
        places = Places(JobRoots([str(tmp_path)]), own)
        for location in ("", "own", str(path), f"{path}/../own"):
            places.check(location)
            with places.opened(location) as lent:
                assert lent is own
        assert own.fingerprints() == {ENCODER: SPEC}  # it is open still


def test_a_store_that_the_server_only_reads_is_refused(path: Path, tmp_path: Path) -> None:
    with open_store(path, read_only=True) as own:
        places = Places(JobRoots([str(tmp_path)]), own)
        for location in ("", "own", str(path)):
            with pytest.raises(
                InvalidRequest,
                match=r"in LMDB, which a process opens once, and .* start the server with --write-back",
            ):
                places.check(location)


def test_a_store_in_redis_that_the_server_only_reads_is_written_beside_it(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        with open_store(server.url, create=True) as made:
            made.namespace(ENCODER, SPEC, create=True)
        with open_store(server.url, read_only=True) as own:
            places = Places(JobRoots([]), own)
            places.check("")
            with places.opened(own.location) as store:
                store.namespace(ENCODER, SPEC).put_many([TokenEntry("a", np.ones((2, 4), np.float16), HASH)])
            assert not own.writable
            assert list(own.namespace(ENCODER).keys()) == ["a"]


def test_a_snapshot_that_the_server_reads_says_how_it_is_made_anew(path: Path, tmp_path: Path) -> None:
    copy_store(str(path), str(tmp_path / "own.snapshot"))
    with (
        open_store(tmp_path / "own.snapshot", read_only=True) as own,
        pytest.raises(InvalidRequest, match="is a snapshot, which is only read: write to a store in LMDB"),
    ):
        Places(JobRoots([str(tmp_path)]), own).check("")


def test_another_store_is_made_below_the_root_and_closed_again(path: Path, tmp_path: Path) -> None:
    with (
        open_store(path, read_only=True) as own,
        Places(JobRoots([str(tmp_path)]), own).opened("new/one") as store,
    ):
        assert store.location == str(tmp_path / "new" / "one")
    open_store(tmp_path / "new" / "one").close()
