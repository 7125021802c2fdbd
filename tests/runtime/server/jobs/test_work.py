"""Which stores a job may write: those below the roots, and the server's own where it writes too."""

from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.jobs.work import Places
from rankport.runtime.store.opening import open_store
from support.token_samples import ENCODER, SPEC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty store below the root `tmp_path`."""
    with open_store(tmp_path / "own", create=True) as store:
        store.namespace(ENCODER, SPEC, create=True)
    return tmp_path / "own"


def test_the_servers_own_store_is_lent_by_any_of_its_names(path: Path, tmp_path: Path) -> None:
    with open_store(path) as own:
        places = Places([str(tmp_path)], own)
        for location in ("", "own", str(path), f"{path}/../own"):
            places.check(location)
            with places.opened(location) as lent:
                assert lent is own
        assert own.fingerprints() == {ENCODER: SPEC}  # it is open still


def test_a_store_that_the_server_only_reads_is_refused(path: Path, tmp_path: Path) -> None:
    with open_store(path, read_only=True) as own:
        places = Places([str(tmp_path)], own)
        for location in ("", "own", str(path)):
            with pytest.raises(InvalidRequest, match=r"only reads: start it with --write-back"):
                places.check(location)


def test_another_store_is_made_below_the_root_and_closed_again(path: Path, tmp_path: Path) -> None:
    with open_store(path, read_only=True) as own, Places([str(tmp_path)], own).opened("new/one") as store:
        assert store.location == str(tmp_path / "new" / "one")
    open_store(tmp_path / "new" / "one").close()
