"""Content features by key: the tokens of a store, and keys that it lacks or that it is not paired for."""

from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.sets import SetColumns
from rankport.runtime.backends.mapped_files import MappedFiles
from rankport.runtime.bundle.sections.sets import ContentFeature, ScalarFeature, SetMask, SetSchema
from rankport.runtime.kinds.set_ranker.gather import Gatherer
from rankport.runtime.kinds.set_ranker.tables import RowTables
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.opening import open_store
from support.token_samples import ENCODER, SPEC, entry

WIDTH = SPEC.tokens * SPEC.hidden_size


def gatherer(
    content: HotTokens | None, width: int = WIDTH, *, low: float = 10.0, high: float = 30.0
) -> Gatherer:
    title = ContentFeature(source="content", name="title", width=width)
    price = ScalarFeature(source="scalar", name="price", scaling="min-max", min=low, max=high)
    mask = SetMask(policy="independent")
    schema = SetSchema(event=[title], candidate=[title, price], mask=mask, max_events=4, max_candidates=4)
    return Gatherer(schema, RowTables({}, MappedFiles(Path(), ())), content)


def test_keys_are_the_tokens_of_the_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "tokens", create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry("a", 1), entry("b", 2)])
        own = gatherer(HotTokens(namespace, 2**20))
        rows = own.rows(
            SetColumns.of({"title": ["b", "a"], "price": [30.0, 20.0]}, "candidates"), "candidates"
        )
        stored = namespace.read(["b", "a"]).tokens.astype(np.float32).reshape(2, -1)
        np.testing.assert_array_equal(rows.features.values, np.concatenate([stored, [[1.0], [0.5]]], axis=1))
        given = own.rows(SetColumns.of({"title": stored}, "history"), "history")
        np.testing.assert_array_equal(given.features.values, stored)
        with pytest.raises(
            NotFound,
            match=rf"history\['title'\]\[1\]: no tokens of key 'gone' under encoder {ENCODER}: run `rankport encode`",
        ):
            own.rows(SetColumns.of({"title": ["a", "gone"]}, "history"), "history")
        with pytest.raises(InvalidRequest, match=f"the store has {WIDTH} values a key, must be 3"):
            gatherer(HotTokens(namespace, 0), 3).rows(SetColumns.of({"title": ["a"]}, "history"), "history")


def test_a_number_that_is_beyond_float32_once_it_is_scaled_is_refused_by_its_place() -> None:
    """It made the scores of all candidates NaN, and numpy warn."""
    columns = {"title": np.zeros((2, WIDTH), np.float32), "price": [20.0, 3e38]}
    near = gatherer(None, low=1.0, high=1.5)
    assert (
        near.rows(SetColumns.of(columns | {"price": [1.0, 1.25]}, "c"), "candidates").features.values[1, -1]
        == 0.5
    )
    with pytest.raises(
        InvalidRequest, match=r"candidates\['price'\]\[1\] is 3e\+38: scaled, it is beyond float32"
    ):
        near.rows(SetColumns.of(columns, "candidates"), "candidates")
