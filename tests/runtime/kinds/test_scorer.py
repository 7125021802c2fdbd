"""`Scorer`: what it owns beside the model that it picked, and a store that the bundle has no use for."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.kind import RANKER
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.bundle_samples import RANKER_FILES, write_directory
from support.reference_backend import HIDDEN, ReferenceBackend
from support.small_rankers import ENCODER, mix_draft, text_draft


def _reference(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Ranker:
    """Loads a sample bundle over the reference backend: its graphs compute nothing."""
    tokens = None if store is None else paired_tokens(store, bundle.manifest)
    engines = Replicas({0: Engine(ReferenceBackend())})
    return Ranker(
        bundle.manifest, PromptEncoder.from_bundle(bundle), engines, KeyedItems(bundle.manifest, tokens)
    )


KIND: Kind = replace(RANKER, load=_reference)


def test_a_store_for_a_bundle_that_takes_no_tokens_is_refused_and_closed(tmp_path: Path) -> None:
    bundle = write_directory(tmp_path / "bundle", text_draft(), RANKER_FILES)
    open_store(tmp_path / "store", create=True).close()
    with pytest.raises(InvalidRequest, match=r"store: bundle .* of kind ranker takes no embedding tokens"):
        Scorer.load_of([KIND], bundle, tmp_path / "store", DEFAULTS)
    open_store(tmp_path / "store").close()  # LMDB would refuse a second time in one process


def test_it_scores_as_its_model_until_it_is_closed(tmp_path: Path) -> None:
    bundle = write_directory(tmp_path / "bundle", text_draft(), RANKER_FILES)
    with Scorer.load_of([KIND], bundle, None, DEFAULTS) as scorer:
        own, alone = scorer.score("q", ["nurse"]), scorer.model.submit("q", ["nurse"]).result()
        assert own.logits.tolist() == alone.logits.tolist()
        assert scorer.capabilities == {"scores", "scores_apart"}
        with pytest.raises(
            InvalidRequest, match=r"features: bundle .* of kind ranker takes no wide features"
        ):
            scorer.rank("q", ["nurse"], features={"bm25": [1.0]})
    with pytest.raises(Unavailable):
        scorer.score("q", ["nurse"])


def test_a_store_given_open_stays_open(tmp_path: Path) -> None:
    bundle = write_directory(tmp_path / "bundle", mix_draft(), RANKER_FILES)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(tmp_path / "store", create=True))
        store.namespace(ENCODER, TokenSpec(2, HIDDEN, "float16"), create=True)
        with Scorer.load_of([KIND], bundle, store, DEFAULTS):
            pass
        assert store.fingerprints().keys() == {ENCODER}


@pytest.mark.parametrize(
    ("load", "lacking"), [(Scorer.load, "scores nothing"), (Classifier.load, "classifies nothing")]
)
def test_a_bundle_that_does_something_else_is_told_with_what_takes_it(
    load: Callable[..., object], lacking: str, set_bundle: Callable[[str, str], Bundle]
) -> None:
    told = f"of kind set-ranker ranks sets, and {lacking}: SetRanker.load (rankport rank) takes it, or give another"
    with pytest.raises(InvalidRequest, match=re.escape(told)):
        load(set_bundle("ligr", "top"))
