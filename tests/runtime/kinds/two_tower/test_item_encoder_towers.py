"""An item encoder as two towers: its score is the cosine."""

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.store.opening import open_store

ONE = EngineConfig(threads=1)
ITEMS = ["data nurse", "welder", "senior data engineer of the machine"]


def test_it_scores_by_the_cosine_of_its_tokens(
    encoder_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [ItemRow(line, str(line), text) for line, text in enumerate(ITEMS)]
    with (
        ItemEncoder.load(encoder_bundle, config=ONE) as encoder,
        open_store(tmp_path_factory.mktemp("rows") / "store", create=True) as store,
    ):
        made = encoder.encode(["data engineer", *ITEMS])[:, 0].astype(np.float64)
        run_encode_job(encoder, namespace_of(store, encoder), rows, EncodeJobConfig())
        norms = np.linalg.norm(made, axis=1)
        cosines = made[1:] @ made[0] / norms[1:] / norms[0]
        with Towers.load(encoder_bundle, store=store, config=ONE) as towers:
            for items in (ITEMS, [Key("0"), "welder", Key("2")], towers.represent(ITEMS)):
                result = towers.score("data engineer", items)
                np.testing.assert_allclose(result.scores, cosines, atol=1e-5)
            described = towers.describe()
            assert described.item_forms == ("text", "token_ids", "embeddings", "key")
            assert (described.labels, described.score_kind) == (("cosine",), "cosine")
            assert (result.score_kind, result.read_out) == ("cosine", "cosine of query and item")
            with pytest.raises(InvalidRequest, match="the bundle has no wide features: leave them out"):
                towers.score("data engineer", ITEMS, features={"bm25": [1.0] * 3})
            with pytest.raises(InvalidRequest, match="prefix gives fields by name"):
                towers.score({"query": "data engineer"}, ITEMS)


def test_queries_may_have_an_encoder_of_the_same_checkpoint(encoder_bundle: Bundle) -> None:
    with Towers.load(encoder_bundle, query=encoder_bundle, config=ONE) as towers:
        assert towers.score("welder", ["welder"]).scores[0] == pytest.approx(1.0, abs=1e-3)
        with pytest.raises(InvalidRequest, match="side is missing"):
            towers.represent(ITEMS)


def test_a_bundle_of_another_kind_is_refused(mix_bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest, match="is 'ranker', where two-tower or item-encoder is looked for"):
        Towers.load(mix_bundle)
