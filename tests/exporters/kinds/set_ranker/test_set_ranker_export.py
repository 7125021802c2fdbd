"""The export of rankers of sets: what is proven, what the manifest says, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.set_ranker.rows import check_rows, rounded_rows
from rankport.exporters.kinds.table import kind_named
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.sections.sets import RowType
from support.sets.rankers import set_checkpoint, set_config, set_model
from support.sets.requests import HEADS


def test_it_is_claimed_by_what_its_config_says(tmp_path: Path) -> None:
    assert claimed_kind(set_checkpoint(tmp_path / "sets")).kind is kind_named("set-ranker")


@pytest.mark.parametrize(("block", "policy", "items"), [("hstu", "set-wise", 80), ("ligr", "top", 79)])
def test_every_way_of_asking_is_proven(
    block: str, policy: str, items: int, set_bundle: Callable[[str, str], Bundle]
) -> None:
    parity = set_bundle(block, policy).manifest.parity
    assert parity is not None
    assert [mode.mode for mode in parity.modes] == ["one_pass", "extended", "cached", "branched", "permuted"]
    assert max(mode.max_abs_error for mode in parity.modes) < 2e-6
    assert {mode.items for mode in parity.modes} == {items}


def test_candidates_that_a_first_pass_cannot_tell_apart_are_no_fault_of_an_export(tmp_path: Path) -> None:
    """Six ids among sixteen candidates, some of them unknown: many are equal where the best three end."""
    ids = {"source": "id", "name": "movie", "table": "movie"}
    tables = {"movie": {"rows": 6, "width": 8, "unknown": "zero"}}
    mask = {"policy": "top", "top_k": 3}
    sets = {"tables": tables, "event": [ids], "candidate": [ids], "mask": mask}
    sizes = {"max_events": 32, "max_candidates": 16}
    model = set_model(set_config(positions=0, time_buckets=0, sets=sets | sizes))
    model.save(tmp_path / "sets")
    parity = export(tmp_path / "sets", tmp_path / "bundle").manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) < 2e-6
    assert all(20 <= mode.items < 80 for mode in parity.modes)


def test_the_manifest_says_what_it_takes_and_gives(set_bundle: Callable[[str, str], Bundle]) -> None:
    manifest = set_bundle("hstu", "set-wise").manifest
    sets, labels = manifest.sets, manifest.labels
    assert sets is not None
    assert labels is not None
    assert tuple(labels.names) == HEADS
    assert sets.head_weights == dict.fromkeys(HEADS, 1.0)
    assert {name: (table.file, table.dtype) for name, table in sets.files.items()} == {
        "movie": ("tables/movie.rows", "int8"),
        "user": ("tables/user.rows", "int8"),
    }
    graphs = {graph.role: [tensor.name for tensor in graph.inputs] for graph in manifest.graphs}
    assert graphs.keys() == {"history", "rank"}
    assert {"candidates", "sessions", "past_key.0"} <= set(graphs["rank"])


def test_another_checkpoint_is_told_by_verify(
    set_bundle: Callable[[str, str], Bundle], tmp_path: Path
) -> None:
    bundle = set_bundle("hstu", "set-wise")
    same = set_checkpoint(tmp_path / "same", "hstu")
    assert verify(bundle.path, same).failures == ()


def test_int8_rows_are_within_half_a_step() -> None:
    weight = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    rows = rounded_rows(weight, "int8")
    assert rows.scales is not None
    error = (rows.values - weight).abs().amax(dim=1)
    assert (error <= torch.from_numpy(rows.scales) / 2 + 1e-7).all()
    assert not rows.values[3].any()
    np.testing.assert_array_equal(rounded_rows(weight, "float32").values, weight)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (70000.0, "float16", "holds 70000, beyond float16, which ends at 65504: leave --table-dtype out"),
        (float("nan"), "int8", "holds nan, which is no number to score by"),
        (float("-inf"), "float32", "holds -inf, which is no number to score by"),
    ],
)
def test_a_row_that_cannot_be_kept_is_refused(value: float, dtype: RowType, message: str) -> None:
    """A proof asks for some rows, which in a large table may not be this one."""
    weight = torch.ones(5, 4)
    weight[3, 2] = value
    with pytest.raises(CheckpointError, match=f"row 3 of table 'movie' {message}"):
        check_rows("movie", weight, dtype)


def test_rows_are_checked_before_they_are_stored(tmp_path: Path) -> None:
    model = set_model(set_config())
    with torch.no_grad():
        model.tables["movie"].weight[3, 2] = 70000
    model.save(tmp_path / "sets")
    with pytest.raises(CheckpointError, match="row 3 of table 'movie' holds 70000"):
        export(tmp_path / "sets", tmp_path / "out", table_dtype="float16")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"target": "tensorrt-rtx:sm86"},
            "--target tensorrt: a ranker of sets is exported for onnx-cpu and onnx-cuda, as TensorRT runs none",
        ),
        ({"precision": "fp16"}, "--precision fp16 is for a GPU: give --target onnx-cuda"),
        ({"quantize": "int8"}, "--quantize int8: a ranker of sets is exported in no low bits"),
        ({"table_dtype": "int4"}, "--table-dtype is 'int4': use one of float32, float16, int8"),
        ({"prompt": "bare"}, "--prompt: a ranker of sets reads features, no text"),
        ({"max_item_tokens": 4}, "--max-item-tokens: a ranker of sets reads features"),
    ],
)
def test_an_option_without_a_use_is_refused(option: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=message):
        export(tmp_path, tmp_path / "out", kind="set-ranker", **option)
