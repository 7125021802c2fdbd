"""A ranker of sets of one's own through the steps of any export, by its two methods."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.own_sets import export_set_ranker, verify_set_ranker
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from support.sets.rankers import set_config, set_model

SETS: dict[str, Any] = {
    "tables": {"item": {"rows": 9, "width": 4}},
    "event": [{"source": "id", "name": "item", "table": "item"}],
    "candidate": [{"source": "id", "name": "item", "table": "item"}, {"source": "scalar", "name": "price"}],
    "mask": {"policy": "independent"},
    "max_events": 12,
    "max_candidates": 6,
}
STATE: dict[str, Any] = {"layers": 1, "attention_heads": 1, "head_dim": 4}
ROWS = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))


class MeanSets(nn.Module):
    """The running mean of what was seen: a candidate's score is its product with it, less a price."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.value = nn.Linear(4, 4)
        self.price = nn.Parameter(torch.tensor([0.25]))

    def history(self, events: Tensor, times: Tensor, past: list[Tensor], past_times: Tensor) -> list[Tensor]:
        return [events[None], self.value(events)[None]]

    def rank(
        self, candidates: Tensor, now: Tensor, past: list[Tensor], past_times: Tensor, sessions: Tensor | None
    ) -> Tensor:
        weights = torch.sigmoid(candidates[:, :4] @ past[0][0].T)
        return ((weights @ past[1][0]) * candidates[:, :4]).sum(dim=1, keepdim=True) - (
            self.price * candidates[:, 4:]
        )


def test_it_answers_as_the_module_and_is_verified_against_it(tmp_path: Path) -> None:
    module = MeanSets()
    bundle = export_set_ranker(
        module, SETS, tmp_path / "own", heads=["click"], tables={"item": ROWS}, score="logit", **STATE
    )
    with torch.no_grad():
        seen, ranked = ROWS[[2, 5, 2]], torch.cat([ROWS[[0, 8]], torch.tensor([[1.5], [-2.0]])], dim=1)
        none = torch.zeros(0, dtype=torch.int64)
        expected = module.rank(ranked, none, module.history(seen, none, [], none), none, None)
    with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        result = ranker.rank({"item": [2, 5, 2]}, {"item": [0, 8], "price": [1.5, -2.0]})
        with pytest.raises(InvalidRequest, match=r"candidates\['item'\]\[1\] is the id 9"):
            ranker.rank({}, {"item": [0, 9], "price": [0.0, 0.0]})
    np.testing.assert_allclose(result.head_scores, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(result.scores, expected[:, 0].numpy(), atol=1e-6)
    assert bundle.manifest.parity is not None
    assert [mode.mode for mode in bundle.manifest.parity.modes][-1] == "one_by_one"
    assert verify_set_ranker(bundle.path, MeanSets(), tables={"item": ROWS}).failures == ()
    assert verify_set_ranker(bundle.path, MeanSets(), tables={"item": ROWS.numpy()}).failures == ()
    with pytest.raises(CheckpointError, match="the bundle was exported from"):
        verify_set_ranker(bundle.path, MeanSets(), tables={"item": ROWS + 1})


def test_ids_of_its_owner_answer_as_the_rows_that_they_name(tmp_path: Path) -> None:
    """Parity by key is parity by row, to the bit; ids in any order, signed, and with other names for two of them."""
    ids = np.array([40, -7, 2**62, 8, 0, 5, 1, -(2**63), 3])
    keyed = SETS | {"tables": {"item": SETS["tables"]["item"] | {"lookup": "keys"}}}
    given: dict[str, Any] = {"heads": ["click"], "tables": {"item": ROWS}, "score": "logit", **STATE}
    by_row = export_set_ranker(MeanSets(), SETS, tmp_path / "row", **given)
    by_key = export_set_ranker(MeanSets(), keyed, tmp_path / "key", ids={"item": ids}, **given)
    assert by_key.file("tables/item.rows").read_bytes() == by_row.file("tables/item.rows").read_bytes()
    seen, ranked = np.array([2, 5, 7]), np.array([0, 8, 1, 4])
    with SetRanker.load(by_row) as rows, SetRanker.load(by_key) as keys:
        expected = rows.rank({"item": seen}, {"item": ranked, "price": np.ones(4)})
        found = keys.rank({"item": ids[seen]}, {"item": ids[ranked], "price": np.ones(4)})
        with pytest.raises(
            InvalidRequest,
            match=r"candidates\['item'\]\[1\] is the id 4, and table 'item' has 9 keys, not this one",
        ):
            keys.rank({}, {"item": [40, 4], "price": [0.0, 0.0]})
        keys.submit_rank(keys.small_query()).result()
        described = keys.describe().candidate_features[0]
        assert (described.lookup, described.id_type, described.ids) == ("keys", "int64", 9)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert verify_set_ranker(by_key.path, MeanSets(), tables={"item": ROWS}, ids={"item": ids}).failures == ()
    swapped = ids[[1, 0, *range(2, 9)]]
    with pytest.raises(CheckpointError, match="the bundle was exported from"):
        verify_set_ranker(by_key.path, MeanSets(), tables={"item": ROWS}, ids={"item": swapped})
    with pytest.raises(InvalidRequest, match="verify_set_ranker has no option 'speed'"):
        verify_set_ranker(by_key.path, MeanSets(), tables={"item": ROWS}, ids={"item": ids}, speed=1)


@pytest.mark.parametrize(
    ("table", "ids", "message"),
    [
        ({"lookup": "keys"}, None, "ids: lacks those of table 'item'"),
        ({"lookup": "keys"}, {"item": [1, 2]}, r"ids\['item'\] has 2 ids, the schema says 9: say so in"),
        ({}, {"item": range(9)}, "ids: 'item' is no table that the schema looks up by keys"),
    ],
)
def test_ids_go_with_a_table_of_keys(table: dict[str, Any], ids: Any, message: str, tmp_path: Path) -> None:
    sets = SETS | {"tables": {"item": SETS["tables"]["item"] | table}}
    with pytest.raises(InvalidRequest, match=message):
        export_set_ranker(
            MeanSets(), sets, tmp_path / "own", heads=["click"], tables={"item": ROWS}, ids=ids, **STATE
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": {}}, r"tables are {}; the schema says {'item': \[9, 4\]}"),
        ({"heads": ["a", "b"]}, r"rank gives \[2, 1\] of 2 candidates; must be \[2, 2\]"),
        ({"layers": 2}, r"history gives .* of 2 events; must be key and value a layer"),
        ({"sets": SETS | {"max_events": 0}}, "sets: max_events: .*got 0"),
        ({"sets": SETS | {"tables": {}}}, "feature 'item' has table 'item', not in tables"),
        ({"heads": "click"}, r"heads is 'click': give a list of names, \['click'\]"),
        ({"score": "rank"}, "--score is 'rank': use probability or logit"),
        ({"heads": []}, r"heads are \[\]: give each logit a name of its own"),
        ({"heads": ["a", "a"]}, "give each logit a name of its own"),
        ({"head_weights": {}}, "head_weights is {}: give a number for each head that counts"),
        ({"head_weights": {"click": 0.0}}, "head_weights are all 0: give the weight of a head that counts"),
        ({"head_weights": {"dwell": 1.0}}, "head_weights: 'dwell' is no head: there are click"),
        ({"head_weights": {"click": float("nan")}}, r"head_weights\['click'\] is nan: give a finite number"),
        ({"layers": 0}, "--layers is 0: must be a whole number from 1 on"),
        ({"head_dim": 0}, "--head-dim is 0: must be a whole number from 1 on"),
        ({"sets": None}, "sets is None: give a mapping"),
        ({"sets": [1]}, "sets is a list: give a mapping"),
        ({"base": "folder"}, "base is of a checkpoint's folder, and a module is given"),
        ({"module": nn.Linear(2, 2)}, "module is a Linear; give a torch.nn.Module with the methods history"),
        ({"module": set_model(set_config())}, "module is a SetRankerModel"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"module": MeanSets(), "sets": SETS, "heads": ["click"], "tables": {"item": ROWS}}
    with pytest.raises(InvalidRequest, match=message):
        export_set_ranker(out=tmp_path / "own", **(given | STATE | change))
