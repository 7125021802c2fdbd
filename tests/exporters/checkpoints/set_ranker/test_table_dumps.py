"""Dumps of dynamic embedding tables: every key at its row, and what does not fit refused with its file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.checkpoints.set_ranker.inputs import hashed
from rankport.exporters.checkpoints.set_ranker.table_dumps import rows_of, sorted_keys, table_dumps
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.sections.sets import IdTable
from support.sets.dumps import COLLECTION, dumped

WIDTH = 4


def values(count: int) -> Tensor:
    """Draws rows."""
    return torch.from_numpy(np.random.default_rng(1).normal(size=(count, WIDTH)).astype(np.float32))


def read(folder: Path, rows: int, **policy: Any) -> Tensor:
    """Reads the one dump of a folder as the table `item`."""
    (dump,) = table_dumps(folder).tables.values()
    return rows_of(dump, "item", IdTable(rows=rows, width=WIDTH, **policy))


@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_ranks_are_joined_and_a_rank_may_be_empty(tmp_path: Path, ranks: int) -> None:
    dumped(tmp_path / COLLECTION, "user_id_emb", values(5), ranks=ranks)
    dumps = table_dumps(tmp_path)
    assert list(dumps.tables) == [f"{COLLECTION.removeprefix('dynamicemb_module/')}/user_id_emb"]
    assert dumps.named("user_id_emb") is not None
    assert dumps.named("id_emb") is None
    torch.testing.assert_close(read(tmp_path, 5), values(5), atol=0, rtol=0)
    assert len(dumps.left_out) == 2 * ranks + 1
    assert {path.name.split(".")[0] for path in dumps.left_out} == {
        "user_id_emb_emb_scores",
        "user_id_emb_emb_opt_values",
        "user_id_emb_opt_args",
    }


def test_more_keys_than_are_read_at_once_find_their_rows(tmp_path: Path) -> None:
    count = (1 << 18) + 5
    dumped(tmp_path / COLLECTION, "item", values(count), ranks=1)
    torch.testing.assert_close(read(tmp_path, count), values(count), atol=0, rtol=0)


def test_hashed_keys_are_where_the_hash_looks_for_them(tmp_path: Path) -> None:
    keys = np.array([-3, 2**62 + 1, 17, 40_000_000_000], np.int64)
    dumped(tmp_path / COLLECTION, "item", values(4), ranks=2, keys=keys)
    rows = read(tmp_path, 1009, lookup="splitmix64", seed=9)
    for key, value in zip(keys.tolist(), values(4), strict=True):
        torch.testing.assert_close(rows[hashed(key, 9) % 1009], value, atol=0, rtol=0)
    assert int((rows != 0).any(dim=1).sum()) == 4


@pytest.mark.parametrize("ranks", [1, 3])
def test_keys_of_all_ranks_are_kept_and_rows_follow_them(tmp_path: Path, ranks: int) -> None:
    keys = np.array([2**62 + 1, -3, 40_000_000_000, 17], np.int64)
    dumped(tmp_path / COLLECTION, "item", values(4), ranks=ranks, keys=keys)
    (dump,) = table_dumps(tmp_path).tables.values()
    table = IdTable(rows=4, width=WIDTH, lookup="keys", unknown="zero")
    assert sorted_keys(dump, "item", table).tolist() == sorted(keys.tolist())
    torch.testing.assert_close(read(tmp_path, 4, lookup="keys"), values(4)[np.argsort(keys)], atol=0, rtol=0)
    with pytest.raises(
        CheckpointError, match="has 4 keys, and table 'item' has 5 rows and 5 keys in the config: say rows 4"
    ):
        read(tmp_path, 5, lookup="keys")
    file = tmp_path / COLLECTION / "item_emb_keys.rank_0.world_size_1"
    if ranks == 1:
        file.write_bytes(np.array([8, 9, 9, 1]).tobytes())
        with pytest.raises(CheckpointError, match="has key 9 twice: dump the table again"):
            read(tmp_path, 4, lookup="keys")


def test_a_row_of_no_key_is_what_an_unknown_id_counts_as(tmp_path: Path) -> None:
    keys: NDArray[np.int64] = np.array([0, 2, 3], np.int64)
    dumped(tmp_path / COLLECTION, "item", values(3), keys=keys)
    zero, shared = read(tmp_path, 5, unknown="zero"), read(tmp_path, 5, unknown="shared", shared_row=2)
    torch.testing.assert_close(zero[keys], values(3), atol=0, rtol=0)
    assert not zero[[1, 4]].any()
    torch.testing.assert_close(shared[[1, 4]], values(3)[[1, 1]], atol=0, rtol=0)
    with pytest.raises(
        CheckpointError, match="has no key 1, a row of table 'item', which refuses unknown ids"
    ):
        read(tmp_path, 5)
    with pytest.raises(CheckpointError, match="has no key 4, the shared row of 'item'"):
        read(tmp_path, 5, unknown="shared", shared_row=4)


def test_a_key_without_a_row_and_two_keys_of_one_are_named(tmp_path: Path) -> None:
    folder = dumped(tmp_path / "far" / COLLECTION, "item", values(2), keys=np.array([0, 900]))
    with pytest.raises(
        CheckpointError,
        match=r"item_emb_keys\.rank_0\.world_size_1: key 900 is no row of table 'item', whose 5",
    ):
        read(tmp_path / "far", 5, unknown="zero")
    low = next(key for key in range(1, 100) if hashed(key, 0) % 7 == hashed(0, 0) % 7)
    dumped(tmp_path / "met" / COLLECTION, "item", values(2), ranks=2, keys=np.array([0, low]))
    with pytest.raises(
        CheckpointError, match=rf"keys (0 and {low}|{low} and 0) have one row, \d of the 7 of table"
    ):
        read(tmp_path / "met", 7, lookup="splitmix64")
    dumped(tmp_path / "same" / COLLECTION, "item", values(2), keys=np.array([-1, 6]))
    with pytest.raises(
        CheckpointError, match=r"have one row, 6 of the 7 .* \(lookup modulo\): say lookup keys"
    ):
        read(tmp_path / "same", 7, lookup="modulo")
    (folder / "item_emb_keys.rank_0.world_size_1").write_bytes(np.array([3, 3]).tobytes())
    with pytest.raises(CheckpointError, match="has key 3 twice: dump the table again"):
        read(tmp_path / "far", 5, unknown="zero")


def test_a_missing_rank_and_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = dumped(tmp_path / COLLECTION, "item", values(6), ranks=3)
    whole = (folder / "item_emb_values.rank_1.world_size_3").read_bytes()
    (folder / "item_emb_values.rank_1.world_size_3").unlink()
    with pytest.raises(
        CheckpointError, match=r"item_emb_values\.rank_1\.world_size_3 is missing: .* by 3 ranks"
    ):
        table_dumps(tmp_path)
    (folder / "item_emb_values.rank_1.world_size_3").write_bytes(whole[:-4])
    with pytest.raises(
        CheckpointError,
        match=r"rank_1\.world_size_3 has 28 bytes, and 2 keys with float32 rows of 4 values take 32",
    ):
        read(tmp_path, 6)
    (folder / "item_emb_keys.rank_1.world_size_3").write_bytes(b"1234567")
    with pytest.raises(
        CheckpointError, match=r"item_emb_keys\.rank_1\.world_size_3 has 7 bytes, no whole number"
    ):
        read(tmp_path, 6)
    (folder / "item_emb_keys.rank_0.world_size_2").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"other files of its table are of \d ranks: keep one dump"):
        table_dumps(tmp_path)


def test_a_file_of_no_known_name_and_a_name_of_two_tables_are_refused(tmp_path: Path) -> None:
    dumped(tmp_path / "dynamicemb_module" / "one", "item", values(2))
    dumped(tmp_path / "dynamicemb_module" / "two", "item", values(2))
    with pytest.raises(CheckpointError, match="table 'item' is dumped as one/item and as two/item: name one"):
        table_dumps(tmp_path).named("item")
    assert table_dumps(tmp_path).named("two/item") is not None
    (tmp_path / "dynamicemb_module" / "two" / "item.npy").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"item\.npy is no file of a table's dump"):
        table_dumps(tmp_path)
    assert not table_dumps(tmp_path / "none").tables
