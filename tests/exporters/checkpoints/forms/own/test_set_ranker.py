"""Folders of rankers of sets: ids of rows in a file beside the weights, for models that were trained by number."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from support.sets.rankers import set_checkpoint
from support.sets.requests import MOVIE_IDS, NOW, by_id, candidates, history, times


def test_a_file_of_ids_makes_rows_known_by_them(tmp_path: Path) -> None:
    folder = set_checkpoint(tmp_path / "sets")
    by_number = checkpoint_sha256(folder)
    np.save(folder / "ids.movie.npy", MOVIE_IDS)
    source = load_checkpoint(folder)
    expected = load_checkpoint(set_checkpoint(tmp_path / "keyed", keyed=True)).model
    assert isinstance(source.model, SetRankerModel)
    assert isinstance(expected, SetRankerModel)
    assert source.model.config == expected.config
    state = expected.state_dict()
    for name, value in source.model.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=0, rtol=0)
    assert not any(weight.requires_grad for weight in source.model.parameters())
    assert source.notes == ("ids of table 'movie' are those of ids.movie.npy",)
    of_ids = checkpoint_sha256(folder)
    np.save(folder / "ids.movie.npy", MOVIE_IDS[::-1])
    assert len({by_number, of_ids, checkpoint_sha256(folder)}) == 3


def test_its_bundle_ranks_ids_as_another_ranks_rows_and_is_verified(
    exported: Callable[..., Bundle], set_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    folder = set_checkpoint(tmp_path / "sets", "hstu")
    np.save(folder / "ids.movie.npy", MOVIE_IDS)
    bundle = exported(folder, name="by-file", kind="set-ranker", table_dtype="int8")
    when = {"times": times(6), "now": NOW}
    with SetRanker.load(bundle) as keyed, SetRanker.load(set_bundle("hstu", "set-wise")) as plain:
        found = keyed.rank(by_id(history(6)), by_id(candidates(8)), **when)
        np.testing.assert_array_equal(found.scores, plain.rank(history(6), candidates(8), **when).scores)
    assert verify(bundle.path, folder).failures == ()


@pytest.mark.parametrize(
    ("table", "ids", "message"),
    [
        ("film", MOVIE_IDS, "ids: 'film' is no table: there are movie, user"),
        ("movie", MOVIE_IDS[[0, 1, 0]], "has id .* twice"),
        ("movie", np.arange(51), r"ids\['movie'\] has row 50 of id 50: the table has 50 rows"),
        ("movie", np.array(["a"], object), r"ids\.movie\.npy cannot be read as \.npy: .*never loaded"),
        (
            "user",
            np.arange(11),
            r"looks ids of table 'user' up by splitmix64: move the file away, or say direct",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(table: str, ids: np.ndarray, message: str, tmp_path: Path) -> None:
    folder = set_checkpoint(tmp_path / "sets")
    np.save(folder / f"ids.{table}.npy", ids)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
