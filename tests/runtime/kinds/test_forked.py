"""Models that were loaded before a fork say so in the child at once, whatever they are asked; the parent goes on."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.types import Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.scheduling.futures import converted, gathered
from rankport.runtime.store.opening import open_store
from support.servers.forking import in_forked_child

CONFIG = EngineConfig(threads=1)
TOLD = (
    "Unavailable: the model was loaded before a fork(), which copies no threads: load it in the child process, or "
    "start processes by 'spawn'"
)


@pytest.fixture
def ranker(mix_bundle: Bundle) -> Iterator[Ranker]:
    with Ranker.load(mix_bundle, config=CONFIG) as loaded:
        yield loaded


@pytest.mark.parametrize(
    "ask",
    [
        lambda ranker: ranker.score("nurse", ["teacher"]),
        lambda ranker: ranker.score("nurse", ["teacher"], timeout_s=0.1),
        lambda ranker: ranker.submit("nurse", [[3, 4]]),
        lambda ranker: ranker.rank("nurse", ["teacher"]),
        lambda ranker: ranker.encode("nurse", ["teacher"]),
    ],
)
def test_a_ranker(ranker: Ranker, ask: Callable[[Ranker], object]) -> None:
    before = ranker.score("nurse", ["teacher"]).scores
    assert in_forked_child(lambda: ask(ranker)) == TOLD
    np.testing.assert_array_equal(ranker.score("nurse", ["teacher"]).scores, before)


def test_a_future_of_the_parent(ranker: Ranker) -> None:
    told = (
        "Unavailable: the request was submitted before a fork(), which copies no threads: submit it in the child "
        "process, or start processes by 'spawn'"
    )
    done = ranker.submit("nurse", ["teacher"])
    score = float(done.result(20.0).scores[0])
    pending = converted(Future[int](), float)
    assert in_forked_child(pending.result) == told
    assert in_forked_child(pending.exception) == told
    assert in_forked_child(lambda: pending.add_done_callback(print)) == told
    assert in_forked_child(lambda: gathered([pending]).result()) == told
    assert in_forked_child(pending.cancel) == "False"
    assert in_forked_child(lambda: float(done.result().scores[0])) == repr(score)
    assert not pending.cancelled()


@pytest.mark.parametrize("send", [ForkingPickler.dumps, copy.copy, copy.deepcopy])
def test_what_stays_in_its_process_says_so_to_who_sends_it(
    ranker: Ranker, send: Callable[[object], object]
) -> None:
    for sent in (ranker, Scorer(ranker, ExitStack()), ranker.submit("nurse", ["teacher"])):
        with pytest.raises(TypeError, match=f"{type(sent).__name__} is not sent to another process"):
            send(sent)
    assert send(ranker.score("nurse", ["teacher"]))


def test_closing_in_the_child_returns_and_leaves_the_parents(ranker: Ranker) -> None:
    assert in_forked_child(lambda: (ranker.alive, ranker.close())) == "(False, None)"
    assert ranker.alive
    assert len(ranker.score("nurse", ["teacher"]).scores) == 1


LOADED_IN_THE_CHILD = """
import sys
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from support.servers.forking import in_forked_child

def score():
    own = Ranker.load(sys.argv[1], config=EngineConfig(threads=1))  # left open: closing takes locks of the heap along
    return own.score("nurse", ["teacher", "cook"]).scores.tolist()

with Ranker.load(sys.argv[1], config=EngineConfig(threads=1)) as ranker:
    print(in_forked_child(score) == repr(ranker.score("nurse", ["teacher", "cook"]).scores.tolist()))
"""


@pytest.mark.parametrize("threads", ["true", "false"])
def test_a_model_loaded_in_the_child_answers_there(mix_bundle: Bundle, threads: str) -> None:
    # In a process of its own: what other tests loaded here has threads whose locks a child would find taken.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TOKENIZERS_PARALLELISM": threads}
    command = [sys.executable, "-c", LOADED_IN_THE_CHILD, str(mix_bundle.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_an_item_encoder(encoder_bundle: Bundle) -> None:
    with ItemEncoder.load(encoder_bundle, config=CONFIG) as encoder:
        assert in_forked_child(lambda: encoder.encode(["nurse"])) == TOLD


def test_a_scorer_of_a_bundle(mix_bundle: Bundle) -> None:
    with Scorer.load(mix_bundle.path, config=CONFIG) as scorer:
        assert in_forked_child(lambda: scorer.score("nurse", ["teacher"])) == TOLD


def test_towers_that_score_rows_and_ask_no_engine(wide_bundle: Bundle) -> None:
    with Towers.load(wide_bundle, config=CONFIG) as towers:
        width = towers.describe().hidden_size
        row, features = np.ones(width, np.float32), np.zeros((1, len(towers.describe().features)), np.float32)
        assert len(towers.score(row, [row[None]], features=features).scores) == 1
        assert in_forked_child(lambda: towers.score(row, [row[None]], features=features)) == TOLD
        assert in_forked_child(lambda: towers.encode(["nurse"], side="item")) == TOLD


def test_keys_of_a_store_that_the_parent_reads(
    mix_bundle: Bundle, encoder_bundle: Bundle, tmp_path: Path
) -> None:
    from rankport.sdk import encode

    items: Any = tmp_path / "items.csv"
    items.write_text("id,text\na,nurse\n")
    with open_store(tmp_path / "store", create=True) as store:
        encode(encoder_bundle.path, items, store)
        with Ranker.load(mix_bundle, store=store, config=CONFIG) as ranker:
            assert in_forked_child(lambda: ranker.score("nurse", [Key("a")])) == TOLD
            told = in_forked_child(lambda: store.namespace(encoder_bundle.manifest.fingerprint))
            assert told.startswith("StoreError: token store ")
            assert told.endswith("was opened before a fork: open it in the child process")
            assert in_forked_child(store.close) == "None"
            assert len(ranker.score("nurse", [Key("a")]).scores) == 1
