"""Ids as owners give them: of each row, or the row of each; and the keys of a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.set_ranker.id_keys import IdKeys, KeyedRows
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.protos.errors import CheckpointError, InvalidRequest
from support.sets.rankers import set_checkpoint, set_config, set_model
from support.sets.requests import MOVIE_IDS


def looked_up(owned: KeyedRows, asked: list[int]) -> list[int]:
    """Finds rows by torch."""
    keys = IdKeys(len(owned.ids))
    keys.assign(owned)
    rows: list[int] = keys(torch.from_numpy(np.array(asked, np.uint64).view(np.int64))).tolist()
    return rows


def test_ids_are_of_each_row_or_name_theirs() -> None:
    large = 2**64 - 1
    by_place, by_id = [900, 3, large], {large: 7, 3: 0, 900: 7}
    assert looked_up(KeyedRows.of(by_place, "item", 9), [3, large, 900, 4, 0]) == [1, 2, 0, -1, -1]
    assert looked_up(KeyedRows.of(by_id, "item", 9), [3, large, 900, 4, 0]) == [0, 7, 7, -1, -1]
    assert KeyedRows.of(by_id, "item", 9).kind == "uint64"
    assert KeyedRows.of(np.array([5, 6], np.uint32), "item", 9).kind == "uint64"
    assert KeyedRows.of([5, 6], "item", 9).kind == "int64"
    shared = {each: each % 2 for each in range(20)}
    assert looked_up(KeyedRows.of(shared, "item", 2), [19, 4, 20]) == [1, 0, -1]
    assert KeyedRows.of([5, 6], "item", 9, "uint64").kind == "uint64"


@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ([], None, r"ids\['item'\] is float64 \[0\]: give whole numbers"),
        ([1.5], None, "is float64"),
        ([True, False, True], None, r"is bool \[3\]"),
        ([True, 7], None, r"is object \[2\]"),
        ({True: 1, 7: 0}, None, r"is object \[2\]"),
        ([[1]], None, r"is int64 \[1, 1\]"),
        (["17"], None, "is <U2"),
        ([-1, 2**63], None, r"is (float64|object) \[2\]"),
        ([4, 2, 4], None, "has id 4 twice: an id has one row"),
        ([1, 2, 3, 4], None, "has row 3 of id 4: the table has 3 rows"),
        ({8: -1}, None, "has row -1 of id 8: the table has 3 rows"),
        ([2**63], "int64", "has 9223372036854775808, which is no int64"),
        ([-7], "uint64", "has -7, which is no uint64"),
    ],
)
def test_ids_that_do_not_fit_are_named(ids: Any, kind: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        KeyedRows.of(ids, "item", 3, kind)


def test_a_model_is_asked_by_id_as_by_row() -> None:
    model = set_model(set_config())
    keyed = model.with_ids({"movie": MOVIE_IDS})
    stated = keyed.config.sets.tables
    assert (stated["movie"].lookup, stated["movie"].key_count, stated["movie"].ids) == ("keys", 50, "uint64")
    assert stated["user"] == model.config.sets.tables["user"]
    rows = np.array([4, 49, 0, 4])
    columns = {"movie": torch.from_numpy(rows), "rating": torch.ones(4)}
    ids = columns | {"movie": torch.from_numpy(MOVIE_IDS[rows].view(np.int64))}
    torch.testing.assert_close(keyed.event_features(ids), model.event_features(columns), atol=0, rtol=0)
    every = keyed.with_ids({"movie": {each: each % 50 for each in range(80)}})
    some = {"movie": torch.from_numpy(rows + 50)[:1], "rating": torch.ones(1)}
    torch.testing.assert_close(
        every.event_features(some)[0], model.event_features(columns)[0], atol=0, rtol=0
    )
    again = keyed.with_ids({"movie": {11: 4}})
    assert again.config.sets.tables["movie"].ids == "int64"
    known = again.event_features({"movie": torch.tensor([11, 4]), "rating": torch.ones(2)})
    torch.testing.assert_close(known[0], model.event_features(columns)[0], atol=0, rtol=0)
    assert not known[1, :6].any()
    with pytest.raises(InvalidRequest, match="ids: 'film' is no table: there are movie, user"):
        model.with_ids({"film": [1]})


def _swap(tensors: dict[str, Tensor]) -> None:
    tensors["ids.movie.keys"][[3, 4]] = tensors["ids.movie.keys"][[4, 3]]


def _repeat(tensors: dict[str, Tensor]) -> None:
    tensors["ids.movie.keys"][4] = tensors["ids.movie.keys"][3]


def _leave(tensors: dict[str, Tensor]) -> None:
    tensors["ids.movie.rows"][2] = 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap, r"ids\.movie\.keys\[4\] is .*, behind .*: keys must ascend, all different"),
        (_repeat, r"ids\.movie\.keys\[4\] is .*: keys must ascend, all different"),
        (_leave, r"ids\.movie\.rows\[2\] is 50: table 'movie' has 50 rows"),
    ],
)
def test_a_checkpoint_keeps_its_ids_and_damaged_ones_are_refused(
    change: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    folder = set_checkpoint(tmp_path / "sets", keyed=True)
    model = load_checkpoint(folder).model
    assert isinstance(model, SetRankerModel)
    assert model.keys_of("movie").keys.tolist() == sorted(MOVIE_IDS.view(np.int64).tolist())
    assert model.keys_of("movie").rows.tolist() == np.argsort(MOVIE_IDS.view(np.int64)).tolist()
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
