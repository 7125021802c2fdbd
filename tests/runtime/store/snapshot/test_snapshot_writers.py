"""Writers of one snapshot: one at a time, and each finds the place whole or anew, however closely they follow."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rankport.protos.errors import StoreError
from rankport.runtime.store.opening import open_store
from support.snapshots import write_snapshot
from support.token_samples import ENCODER

ROUNDS = 20


def write(directory: Path) -> list[str]:
    """Writes a snapshot again and again, with the reasons why it could not."""
    refusals, done = list[str](), 0
    while done < ROUNDS:
        try:
            write_snapshot(directory, {"a": 1})
        except StoreError as error:
            refusals.append(str(error))
        else:
            done += 1
    return refusals


def test_a_writer_that_begins_as_another_ends_finds_its_place_taken_or_free(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        refusals = [reason for reasons in threads.map(write, [tmp_path] * 2) for reason in reasons]
    assert all("another process writes" in reason for reason in refusals)
    with open_store(tmp_path, read_only=True) as store:
        assert list(store.namespace(ENCODER).keys()) == ["a"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".tokens"]
