"""Models whose engines are behind a link answer as they do by themselves, and each request ends as it would there.

Both ends are in this process, which is all that the models know.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RankportError,
    StoreError,
    Unavailable,
)
from rankport.protos.priorities import priority
from rankport.protos.types import ScoreResult
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.kinds.hosted_engine import HostedEngine, hosted_ranker, load_hosted
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.ranker.remote import RemoteRankerEngine
from rankport.runtime.kinds.remote.connection import Connection
from rankport.runtime.kinds.remote.messages import EngineOrder, EngineState, Message, nothing_counted
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.kinds.table import kind_of
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.link import Link
from rankport.runtime.scheduling.meter import Meter
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.server.processes.engine_host import EngineHost
from support.engines import WAIT_S, gated
from support.reference_backend import submit, token_run
from support.servers.supervised import ONE_THREAD, eventually
from support.sets.requests import NOW, candidates, history, times

ITEMS = ["nurse", "welder", "chief cook"]


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Callable[..., EngineConfig]]:
    """Hosts engines of some settings, and gives those of models whose engines are there."""
    hosts = []

    def begin(config: EngineConfig = ONE_THREAD) -> EngineConfig:
        path = str(tmp_path / f"engine-{len(hosts)}")
        hosts.append(EngineHost(path, config, lambda: None))
        return replace(config, engines_at=(path,), link_bytes=2**16)

    yield begin
    for host in hosts:
        host.close()


def loaded(bundle: Bundle, config: EngineConfig) -> Model:
    return kind_of(bundle).load(bundle, config, None)


def test_a_list_ranker_reads_its_markers_there(
    list_bundle: Bundle, hosted: Callable[..., EngineConfig]
) -> None:
    own, remote = loaded(list_bundle, ONE_THREAD), loaded(list_bundle, hosted())
    scores = [model.submit("nurse", ITEMS).result(20).scores for model in (own, remote)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-5)
    for model in (own, remote):
        model.close()


def test_two_towers_have_each_graph_there(wide_bundle: Bundle, hosted: Callable[..., EngineConfig]) -> None:
    own, remote = loaded(wide_bundle, ONE_THREAD), loaded(wide_bundle, hosted())
    features = np.zeros((3, len(own.describe().features)), np.float32)
    scores = [
        model.submit("nurse", ITEMS, features=features).result(20).scores  # type: ignore[attr-defined]
        for model in (own, remote)
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-5)
    warm(remote, 20)
    for model in (own, remote):
        model.close()


@pytest.mark.parametrize(
    ("block", "policy", "target"),
    [("hstu", "set-wise", "onnx-cpu"), ("ligr", "top", "onnx-cpu"), ("hstu", "set-wise", "onnx-cuda")],
)
def test_sets_are_ranked_there_with_their_weights_and_kept_histories(
    set_bundle: Callable[..., Bundle],
    hosted: Callable[..., EngineConfig],
    block: str,
    policy: str,
    target: str,
) -> None:
    """Graphs for CUDA gather rows of ids: those are read where the engine is, and their numbers cross."""
    asked = {"candidates": candidates(8), "now": NOW, "head_weights": {"click": 1.0, "like": 2.5}, "top_k": 5}
    asked["sessions"] = [0, 0, 0, 1, 1, 1, 1, 1]
    bundle = set_bundle(block, policy, target)
    with (
        SetRanker.load(bundle, config=ONE_THREAD) as own,
        SetRanker.load(bundle, config=hosted()) as remote,
    ):
        for events in (6, 6, 0):
            told = {"history": history(events), "times": times(events), **asked}
            here, there = own.rank(**told), remote.rank(**told)  # type: ignore[arg-type]
            np.testing.assert_allclose(there.head_scores, here.head_scores, rtol=0, atol=1e-6)
            np.testing.assert_allclose(there.scores, here.scores, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(there.order, here.order)
            assert there.usage.prefix_tokens_cached == here.usage.prefix_tokens_cached
            assert there.usage.prefix_tokens_computed == here.usage.prefix_tokens_computed
        eventually(lambda: remote.counts().cache == own.counts().cache)
        with pytest.raises(InvalidRequest, match="head_weights: 'buy' is no head"):
            remote.rank(**{**told, "head_weights": {"buy": 1.0}})  # type: ignore[arg-type]


def test_deadlines_cancels_and_a_full_queue_reach_it(
    mix_bundle: Bundle, hosted: Callable[..., EngineConfig]
) -> None:
    config = hosted(replace(ONE_THREAD, max_queued_requests=2, max_active_requests=1))
    config = replace(config, link_bytes=2**24)  # it is the queue that is full
    with Ranker.load(mix_bundle, config=config) as ranker:
        with pytest.raises(DeadlineExceeded, match="ran out"):
            ranker.submit("q", ["nurse"] * 5000, timeout_s=1e-4).result(20)
        with priority("background"), Meter() as meter:
            given_up = ranker.submit("q", ["senior nurse"] * 8000)
            assert given_up.cancel()
            eventually(lambda: waiting(ranker) == 0)  # long before it would be computed
            futures = [ranker.submit(f"q {number}", ["senior nurse"] * 2000) for number in range(20)]
            errors = [error_of(future) for future in futures]
        assert Overloaded in errors
        assert None in errors
        assert set(errors) == {Overloaded, None}
        answered = next(future for future, error in zip(futures, errors, strict=True) if error is None)
        usage = answered.result().usage
        tokens = usage.item_tokens + usage.prefix_tokens_computed + usage.prefix_tokens_cached
        # What was given up was queued; what was refused costs nothing.
        assert meter.tokens == 8000 * 3 + 3 + tokens * errors.count(None)
        eventually(lambda: waiting(ranker) == 0)


def waiting(ranker: Ranker) -> int:
    queue = ranker.counts().engines["cpu"].queue
    return queue.waiting_requests + queue.active_requests


def error_of(future: "Future[ScoreResult]") -> type[BaseException] | None:
    error = future.exception(30)
    return None if error is None else type(error)


def test_a_pass_that_does_not_end_ends_the_process(mix_bundle: Bundle, tmp_path: Path) -> None:
    path, config, died = str(tmp_path / "engine"), EngineConfig(), threading.Event()
    with gated(config) as (engine, _, gate):
        host = EngineHost(
            path, config, died.set, lambda order, own: hosted_ranker(engine), hopeless_pass_s=0.1
        )
        remote = RemoteRankerEngine(mix_bundle, replace(config, engines_at=(path,)), 0)
        assert died.wait(WAIT_S)
        gate.opened.set()
        remote.close()
        host.close()


def test_a_front_knows_of_a_full_queue_without_asking(mix_bundle: Bundle, tmp_path: Path) -> None:
    path, config = str(tmp_path / "engine"), EngineConfig(max_queued_requests=2)
    with gated(config) as (engine, _, gate):
        host = EngineHost(path, config, lambda: None, lambda order, own: hosted_ranker(engine))
        remote = RemoteRankerEngine(mix_bundle, replace(config, engines_at=(path,)), 0)
        remote.check_room(None, "interactive")
        waiting = [submit(engine, token_run(1), [token_run(2)]) for _ in range(2)]  # of other fronts
        with pytest.raises(Overloaded, match=r"2 requests \(max_queued_requests 2\)") as told:
            remote.check_room(None, "interactive")
        assert told.value.reason == "room"
        remote.check_room(None, "background")  # nothing is known of it
        gate.opened.set()
        for future in waiting:
            future.result(WAIT_S)
        eventually(lambda: not engine.counts().queue.waiting_requests)
        remote.check_room(None, "interactive")
        host.close()
        eventually(lambda: not remote.alive)
        remote.check_room(None, "interactive")  # nobody is there to say so
        remote.close()


def test_a_model_that_is_closed_frees_its_engine_when_the_last_goes(
    mix_bundle: Bundle, hosted: Callable[..., EngineConfig]
) -> None:
    config = hosted()
    first, second = (Ranker.load(mix_bundle, config=config) for _ in range(2))
    for model in (first, second):
        model.score("q", ITEMS)
    eventually(lambda: passes(first) == passes(second) == 2)  # of the one engine
    first.close()
    with pytest.raises(Unavailable, match="closed"):
        first.score("q", ITEMS)
    assert not first.alive
    assert second.score("q", ITEMS).usage.prefix_tokens_cached > 0
    second.close()

    def begun_anew() -> bool:
        with Ranker.load(mix_bundle, config=config) as third:
            return third.score("q", ITEMS).usage.prefix_tokens_computed > 0

    eventually(begun_anew)  # who let it go waits for nothing


def passes(ranker: Ranker) -> int:
    stage = ranker.counts().engines["cpu"].stages.get("score")
    return 0 if stage is None else stage.passes


def test_a_bundle_that_cannot_be_loaded_there_is_told(
    mix_bundle: Bundle, hosted: Callable[..., EngineConfig]
) -> None:
    address = hosted().engines_at[0]
    with pytest.raises(RankportError, match="it had aaaaaaaaaaaa when the front opened it"):
        Connection(address, EngineOrder(str(mix_bundle.path), "a" * 64, ""), 2**16)
    with pytest.raises(Unavailable, match="does not answer"):
        Connection(f"{address}-none", EngineOrder("", "", ""), 2**16)


def test_an_engine_that_cannot_be_loaded_when_its_process_is_back_is_asked_for_again(
    tmp_path: Path, mix_bundle: Bundle
) -> None:
    path, refusals = str(tmp_path / "engine"), ["the store is being copied"]

    def load(order: EngineOrder, config: EngineConfig) -> HostedEngine:
        if refusals:
            raise StoreError(refusals.pop())
        return load_hosted(order, config)

    host = EngineHost(path, ONE_THREAD, lambda: None)
    with Ranker.load(mix_bundle, config=replace(ONE_THREAD, engines_at=(path,))) as ranker:
        host.close()
        eventually(lambda: not ranker.alive)
        host = EngineHost(path, ONE_THREAD, lambda: None, load)
        eventually(lambda: ranker.alive)
        assert not refusals
        assert len(ranker.score("q", ITEMS).scores) == len(ITEMS)
    host.close()


def test_a_model_is_closed_while_its_engine_is_loaded_again(tmp_path: Path, mix_bundle: Bundle) -> None:
    path, begun, release = str(tmp_path / "engine"), threading.Event(), threading.Event()

    def load(order: EngineOrder, config: EngineConfig) -> HostedEngine:
        begun.set()
        release.wait(120.0)
        raise StoreError("too late")

    host = EngineHost(path, ONE_THREAD, lambda: None)
    ranker = Ranker.load(mix_bundle, config=replace(ONE_THREAD, engines_at=(path,)))
    host.close()
    host = EngineHost(path, ONE_THREAD, lambda: None, load)
    assert begun.wait(60.0)
    closing = threading.Thread(target=ranker.close)
    closing.start()
    closing.join(60.0)
    assert not closing.is_alive()
    release.set()
    host.close()


def test_memory_that_an_engine_does_not_read_ends_in_overload_and_its_end_in_unavailable(
    tmp_path: Path,
) -> None:
    path, links = str(tmp_path / "slow"), []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def open_and_read_no_more() -> None:
            link = Link.accept(listening.accept()[0])
            state = EngineState(True, nothing_counted("cpu"), None)
            link.send(Message.OPENED, 0, Columns(state.values()))
            links.append(link)

        thread = threading.Thread(target=open_and_read_no_more)
        thread.start()
        connection = Connection(path, EngineOrder("", "", ""), 2**17)
        thread.join()
        columns = Columns({}, {"ids": np.zeros(5000, np.int64)})
        sent = [connection.submit(columns, 1) for _ in range(3)]  # 40 kB each
        with pytest.raises(Overloaded, match="is full"):
            connection.submit(columns, 1)
        links[0].close()
        for future in sent:
            with pytest.raises(Unavailable, match="started again") as told:
                future.result(5)
            assert told.value.retry_after_s == 1.0
        connection.close(0.0)
