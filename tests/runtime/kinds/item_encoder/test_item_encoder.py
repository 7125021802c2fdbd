"""`ItemEncoder`: every text its own tokens, in order, whatever it is batched with."""

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, DeadlineExceeded, InvalidRequest, LimitExceeded, Unavailable
from rankport.runtime.backends.contract import Started
from rankport.runtime.bundle.manifest import Embedding, ModelShape
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.bundle_samples import (
    ENCODER_FILES,
    RANKER_FILES,
    VOCAB_SIZE,
    encoder_draft,
    ranker_draft,
    write_directory,
)
from support.effort import scale
from support.reference_backend import HIDDEN, ReferenceEncodingBackend

WAIT_S = 30.0
CLS, SEP, RED, SHOES = 1, 2, 6, 9
POISON = 13


@contextmanager
def encoder_of(
    path: Path, backend: ReferenceEncodingBackend, config: EngineConfig = DEFAULTS, **changes: object
) -> Iterator[ItemEncoder]:
    draft = encoder_draft(
        **changes,
        shape=ModelShape(hidden_size=HIDDEN, vocab_size=VOCAB_SIZE, layers=[]),
        embedding=Embedding(tokens=2, hidden_size=HIDDEN, dtype="float16", pooling="last-k", normalize=False),
    )
    bundle = open_bundle(write_directory(path / "bundle", draft, ENCODER_FILES))
    engine = TextEngine(backend, config)
    with ItemEncoder(bundle.manifest, PromptEncoder.from_bundle(bundle), Replicas({0: engine})) as encoder:
        yield encoder


def ids(*tokens: int) -> NDArray[np.int64]:
    return np.array(tokens, np.int64)


def texts(*runs: NDArray[np.int64]) -> TokenRuns:
    return TokenRuns.of([TokenRun(run) for run in runs])


def refuse_poison(texts: TokenRuns) -> None:
    if POISON in texts.ids:
        raise ValueError("a poisoned token")


def test_a_query_is_read_as_an_item_where_the_bundle_says_so(tmp_path: Path) -> None:
    with encoder_of(tmp_path / "alike", ReferenceEncodingBackend(), queries="as-items") as encoder:
        queries = encoder.submit_texts(["red shoes"], side="query").result(WAIT_S)
        np.testing.assert_array_equal(queries, encoder.encode(["red shoes"]))
        alike = encoder.fingerprint
    with encoder_of(tmp_path / "items", ReferenceEncodingBackend()) as encoder:
        with pytest.raises(
            InvalidRequest, match="'sample-encoder' reads items alone: ask for no side, or export"
        ):
            encoder.submit_texts(["red shoes"], side="query")
        assert encoder.fingerprint == alike  # no token is another


def test_tokens_are_counted_with_those_around_them(tmp_path: Path) -> None:
    with encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder:
        assert encoder.count_tokens(["red shoes", [RED]]) == len([CLS, RED, SHOES, SEP, CLS, RED, SEP])
        assert encoder.count_tokens([]) == 0


def test_texts_and_ids_get_their_own_tokens_in_their_order(tmp_path: Path) -> None:
    backend = ReferenceEncodingBackend()
    with encoder_of(tmp_path, backend) as encoder:
        tokens = encoder.encode(["red shoes", [RED], "shoes"])
    expected = [backend.tokens(ids(CLS, *item, SEP)) for item in ((RED, SHOES), (RED,), (SHOES,))]
    np.testing.assert_array_equal(tokens, np.stack(expected))
    assert tokens.dtype == np.float16


def test_no_texts_give_no_tokens(tmp_path: Path) -> None:
    with encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder:
        tokens = encoder.encode([])
    assert (tokens.shape, tokens.dtype) == ((0, 2, HIDDEN), np.float16)


@settings(max_examples=scale(50))
@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=9), min_size=1, max_size=9), max_size=5
    ),
    st.integers(1, 30),
    st.sampled_from([0, 5]),
    st.floats(1.0, 3.0),
)
def test_batches_keep_their_limits_and_change_nothing(
    requests: list[list[list[int]]], max_batch_tokens: int, extra_tokens: int, max_padding_ratio: float
) -> None:
    backend = ReferenceEncodingBackend()
    # The limit of texts holds beside a larger one of all passes.
    config = EngineConfig(
        max_batch_tokens=max_batch_tokens + extra_tokens,
        max_text_batch_tokens=max_batch_tokens,
        max_padding_ratio=max_padding_ratio,
    )
    engine = TextEngine(backend, config)
    futures = [engine.submit(texts(*(ids(*text) for text in own))) for own in requests]
    for own, future in zip(requests, futures, strict=True):
        expected = [backend.tokens(ids(*text)) for text in own]
        np.testing.assert_array_equal(future.result(WAIT_S).rows, np.stack(expected))
    engine.close()
    for lengths in backend.passes:
        assert sum(lengths) <= max_batch_tokens or len(lengths) == 1
        assert len(lengths) * max(lengths) <= max_padding_ratio * sum(lengths)


def test_only_the_guilty_request_of_a_pass_fails() -> None:
    reached, opened = threading.Event(), threading.Event()

    def hold(texts: TokenRuns) -> None:
        reached.set()
        assert opened.wait(WAIT_S)
        refuse_poison(texts)

    backend = ReferenceEncodingBackend(before_pass=hold)
    engine = TextEngine(backend)
    engine.submit(texts(ids(1)))
    assert reached.wait(WAIT_S)
    good, bad, cancelled = (engine.submit(texts(ids(token, 2))) for token in (3, POISON, 4))
    assert cancelled.cancel()
    opened.set()
    np.testing.assert_array_equal(good.result(WAIT_S).rows[0], backend.tokens(ids(3, 2)))
    with pytest.raises(BackendError, match="encode failed on the device: ValueError: a poisoned token"):
        bad.result(WAIT_S)
    assert wait([cancelled], WAIT_S).done
    assert backend.passes == [[1], [2]]
    engine.close()
    assert backend.closed
    with pytest.raises(Unavailable):
        engine.submit(texts(ids(1)))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("done", [True, False], ids=["a CPU", "a device under way"])
def test_tokens_that_are_not_finite_are_in_their_own_request_alone(done: bool) -> None:
    opened = threading.Event()

    class Backend(ReferenceEncodingBackend):
        def start(self, texts: TokenRuns) -> Started[np.floating]:
            return replace(super().start(texts), done=done)

    backend = Backend(before_pass=lambda texts: assert_opened(opened))
    backend.model.embedding[RED] = np.inf
    engine = TextEngine(backend)
    futures = [engine.submit(texts(ids(token, 2))) for token in (9, 3, RED, 4)]
    opened.set()
    finite = [bool(np.isfinite(future.result(WAIT_S).rows).all()) for future in futures]
    assert finite == [True, True, False, True]
    assert len(backend.passes) <= 2  # the first was begun alone at most
    engine.close()


@pytest.mark.filterwarnings("ignore:invalid value")
def test_tokens_that_are_not_finite_are_an_error_and_never_an_answer(tmp_path: Path) -> None:
    backend = ReferenceEncodingBackend()
    backend.model.embedding[RED] = np.inf
    with encoder_of(tmp_path, backend) as encoder, pytest.raises(BackendError, match="not finite"):
        encoder.encode(["shoes", "red"])


def test_a_text_beyond_the_limit_is_refused_or_cut(tmp_path: Path) -> None:
    backend = ReferenceEncodingBackend()
    long = "red shoes red shoes red shoes"
    with encoder_of(tmp_path, backend) as encoder:
        with pytest.raises(LimitExceeded, match="item 1"):
            encoder.encode(["red", long])
        tokens = encoder.encode([long], truncation="truncate")
    np.testing.assert_array_equal(tokens[0], backend.tokens(ids(CLS, RED, SHOES, RED, SHOES, SEP)))


def test_embedding_tokens_are_no_text(tmp_path: Path) -> None:
    with (
        encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder,
        pytest.raises(InvalidRequest, match="item 0"),
    ):
        encoder.encode([np.zeros((2, HIDDEN), np.float32)])  # type: ignore[list-item]


def test_a_deadline_ends_the_wait_while_the_device_is_busy(tmp_path: Path) -> None:
    opened = threading.Event()
    backend = ReferenceEncodingBackend(before_pass=lambda texts: assert_opened(opened))
    with encoder_of(tmp_path, backend) as encoder:
        with pytest.raises(DeadlineExceeded, match=r"timeout_s=0.001"):
            encoder.encode(["red"], timeout_s=0.001)
        opened.set()


@pytest.mark.parametrize("timeout_s", [float("nan"), -1])
def test_a_timeout_that_is_no_time_is_refused(tmp_path: Path, timeout_s: float) -> None:
    with encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder:
        for call in (encoder.encode, encoder.submit):
            with pytest.raises(InvalidRequest, match="timeout_s is"):
                call(["red"], timeout_s)


def test_texts_of_a_generator_are_encoded_with_no_limit_of_time(tmp_path: Path) -> None:
    with encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder:
        drawn = encoder.encode((text for text in ["red", "shoes"]), float("inf"))
        np.testing.assert_array_equal(drawn, encoder.encode(["red", "shoes"]))


def assert_opened(event: threading.Event) -> None:
    assert event.wait(WAIT_S)


def test_a_ranker_is_not_an_encoder(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "bundle", ranker_draft(), RANKER_FILES)
    with pytest.raises(
        InvalidRequest, match=r"kind: is 'ranker', where item-encoder is looked for: give another"
    ):
        ItemEncoder.load(path)


def test_it_describes_what_it_makes(tmp_path: Path) -> None:
    with encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder:
        described = encoder.describe()
        assert described.fingerprint == encoder.fingerprint
    assert (described.kind, described.item_forms) == ("item-encoder", ("text", "token_ids"))
    assert (described.embedding_tokens, described.hidden_size, described.embedding_dtype) == (
        2,
        HIDDEN,
        "float16",
    )


@pytest.mark.parametrize("empty", ["", " \n", []])
def test_an_empty_text_is_refused_by_its_place(tmp_path: Path, empty: str | list[int]) -> None:
    with (
        encoder_of(tmp_path, ReferenceEncodingBackend()) as encoder,
        pytest.raises(InvalidRequest, match="item 1: is empty: it has no token of its own"),
    ):
        encoder.encode(["red", empty])
