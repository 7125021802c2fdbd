"""`Ranker`: scores, statuses and messages of every form of item, over a real bundle's prompt and a real store."""

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos import wire
from rankport.protos.errors import (
    BundleError,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PairingError,
    Unavailable,
)
from rankport.protos.types import ItemStatus, Key, ScoreResult
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.bundle.manifest import Embedding, Labels, ManifestDraft, ModelShape, Pairing
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.ranker import Ranker, label_scores
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.store import TokenEntry, TokenSpec, TokenStore
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.bundle_samples import (
    ENCODER_FILES,
    RANKER_FILES,
    VOCAB_SIZE,
    encoder_draft,
    ranker_draft,
    write_directory,
)
from support.reference_backend import HIDDEN, LABELS, ReferenceBackend

WAIT_S = 30.0
ENCODER = "e" * 64
CLS, SEP, QUERY, COLON, RED, GREEN, SHOES, BOOTS = 1, 2, 4, 5, 6, 7, 9, 10
EMBEDDINGS = np.random.default_rng(3).normal(size=(3, 2, HIDDEN)).astype(np.float16)


def mix_draft(**changes: object) -> ManifestDraft:
    shape = ModelShape(hidden_size=HIDDEN, vocab_size=VOCAB_SIZE, layers=ranker_draft().shape.layers)
    embedding = Embedding(tokens=2, hidden_size=HIDDEN, dtype="float16")
    return ranker_draft(**({"shape": shape, "embedding": embedding} | changes))


def text_draft() -> ManifestDraft:
    return mix_draft(embedding=None, pairing=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    with TokenStore.open(tmp_path / "tokens", create=True) as opened:
        namespace = opened.namespace(ENCODER, TokenSpec(2, HIDDEN, "float16"), create=True)
        namespace.put_many([TokenEntry(f"item{row}", EMBEDDINGS[row], bytes(16)) for row in range(3)])
        yield opened


@contextmanager
def ranker_of(
    path: Path, draft: ManifestDraft, store: TokenStore | None = None, backend: ReferenceBackend | None = None
) -> Iterator[Ranker]:
    bundle = open_bundle(write_directory(path / "bundle", draft, RANKER_FILES))
    tokens = None if store is None else paired_tokens(store, bundle.manifest)
    with Ranker(
        bundle.manifest,
        PromptEncoder.from_bundle(bundle),
        Replicas({0: Engine(backend or ReferenceBackend())}),
        KeyedItems(bundle.manifest, tokens),
    ) as ranker:
        yield ranker


def run(*ids: int) -> TokenRun:
    return TokenRun(np.array(ids, np.int64))


def embedded(row: int) -> TokenRun:
    return TokenRun(np.array([EMBEDDED, EMBEDDED, SEP], np.int64), EMBEDDINGS[row].astype(np.float32))


def expected_logits(prefix: TokenRun, items: list[TokenRun]) -> np.ndarray:
    model = ReferenceBackend().model
    return np.stack([model.full_sequence(prefix, item) for item in items])


RED_PREFIX = run(CLS, QUERY, COLON, RED)


def test_every_form_of_item_gets_the_full_sequence_score(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path, mix_draft(), store) as ranker:
        result = ranker.score("red", ["shoes", [SHOES], np.array([BOOTS]), EMBEDDINGS[0], Key("item1")])
    runs = [run(SHOES, SEP), run(SHOES, SEP), run(BOOTS, SEP), embedded(0), embedded(1)]
    logits = expected_logits(RED_PREFIX, runs)
    np.testing.assert_allclose(result.logits, logits, atol=1e-5)
    yes, no = np.exp(logits).T
    np.testing.assert_allclose(result.scores, yes / (yes + no), atol=1e-6)
    assert (result.scores.dtype, result.logits.dtype) == (np.float32, np.float32)
    assert result.status == (ItemStatus.OK,) * 5
    assert result.messages == ("",) * 5


@pytest.mark.parametrize("prefix", ["red", {"query": "red"}, [CLS, QUERY, COLON, RED]])
def test_every_form_of_prefix_is_the_same_prefix(
    tmp_path: Path, prefix: str | dict[str, str] | list[int]
) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        result = ranker.score(prefix, ["shoes"])
        again = ranker.score(prefix, ["shoes", "boots"])
    np.testing.assert_allclose(result.logits, expected_logits(RED_PREFIX, [run(SHOES, SEP)]), atol=1e-5)
    assert (result.usage.prefix_tokens_cached, result.usage.prefix_tokens_computed) == (0, 4)
    assert (again.usage.prefix_tokens_cached, again.usage.prefix_tokens_computed) == (4, 0)
    assert (result.usage.item_tokens, again.usage.item_tokens) == (2, 4)
    assert min(again.usage.tokenize_s, again.usage.queue_s, again.usage.compute_s) > 0


def test_a_missing_key_is_skipped_and_the_others_keep_their_places(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path, mix_draft(), store) as ranker:
        result = ranker.score("red", [Key("item0"), Key("lost"), "shoes"])
    assert result.status == (ItemStatus.OK, ItemStatus.NOT_FOUND, ItemStatus.OK)
    assert "'lost'" in result.messages[1]
    assert ENCODER in result.messages[1]
    assert np.isnan(result.scores).tolist() == [False, True, False]
    assert np.isnan(result.logits[1]).all()
    logits = expected_logits(RED_PREFIX, [embedded(0), run(SHOES, SEP)])
    np.testing.assert_allclose(result.logits[[0, 2]], logits, atol=1e-5)


def test_an_error_behind_a_missing_key_names_the_right_item(tmp_path: Path, store: TokenStore) -> None:
    with (
        ranker_of(tmp_path, mix_draft(), store) as ranker,
        pytest.raises(InvalidRequest, match="item 2"),
    ):
        ranker.score("red", [Key("lost"), "shoes", [999]])


def test_a_missing_key_fails_the_request_when_asked_to(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path, mix_draft(), store) as ranker:
        with pytest.raises(NotFound, match=r"item 1: .*'lost'.*2 such items of 3"):
            ranker.score("red", [Key("item0"), Key("lost"), Key("gone")], on_missing="fail")
        with pytest.raises(NotFound, match="'lost'"):
            ranker.encode("red", [Key("lost")])


def test_only_missing_keys_compute_nothing(tmp_path: Path, store: TokenStore) -> None:
    backend = ReferenceBackend()
    with ranker_of(tmp_path, mix_draft(), store, backend) as ranker:
        result = ranker.score("red", [Key("lost")])
    assert result.status == (ItemStatus.NOT_FOUND,)
    assert result.logits.shape == (1, LABELS)
    assert not backend.passes


def test_no_items_give_an_empty_result(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        result = ranker.score("red", [])
        with pytest.raises(InvalidRequest, match="fields"):
            ranker.score({"unknown": "red"}, [])
    assert (result.scores.shape, result.logits.shape, result.status) == ((0,), (0, LABELS), ())


def test_cuts_are_told_per_item(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        items = ["red", "red green blue shoes boots"]
        with pytest.raises(LimitExceeded, match="item 1"):
            ranker.score("red", items)
        cut_item = ranker.score("red", items, truncation="truncate")
        cut_prefix = ranker.score("red green blue shoes boots", ["red"], truncation="truncate")
    assert cut_item.status == (ItemStatus.OK, ItemStatus.TRUNCATED)
    assert "item cut" in cut_item.messages[1]
    assert cut_prefix.status == (ItemStatus.TRUNCATED,)
    assert "prefix cut" in cut_prefix.messages[0]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_item_with_logits_that_are_not_finite_fails_alone(tmp_path: Path) -> None:
    backend = ReferenceBackend()
    backend.model.embedding[BOOTS] = np.inf
    with ranker_of(tmp_path, text_draft(), backend=backend) as ranker:
        result = ranker.score("red", ["shoes", "boots"])
    assert result.status == (ItemStatus.OK, ItemStatus.FAILED)
    assert np.isnan(result.scores).tolist() == [False, True]
    assert "not finite" in result.messages[1]


def test_keys_and_embeddings_are_refused_where_they_cannot_be_read(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path / "text", text_draft(), store) as ranker:
        with pytest.raises(InvalidRequest, match=r"item 1 is the key 'item0': .* text or token ids"):
            ranker.score("red", ["shoes", Key("item0")])
        with pytest.raises(InvalidRequest, match="item 0"):
            ranker.score("red", [EMBEDDINGS[0]])
    with (
        ranker_of(tmp_path / "mix", mix_draft()) as ranker,
        pytest.raises(InvalidRequest, match=r"without a token store: give it one \(store, --store\)"),
    ):
        ranker.score("red", [Key("item0")])


@pytest.mark.parametrize("option", [{"truncation": "cut"}, {"on_missing": "ignore"}])
def test_unknown_options_are_refused(tmp_path: Path, option: dict[str, str]) -> None:
    with (
        ranker_of(tmp_path, text_draft()) as ranker,
        pytest.raises(InvalidRequest, match=next(iter(option.values()))),
    ):
        ranker.score("red", ["shoes"], **option)  # type: ignore[arg-type]


def test_a_single_text_is_not_a_list_of_items(tmp_path: Path) -> None:
    with (
        ranker_of(tmp_path, text_draft()) as ranker,
        pytest.raises(InvalidRequest, match="give a list of items"),
    ):
        ranker.score("red", "shoes")


def test_tokens_of_another_encoder_are_refused_with_all_fingerprints(
    tmp_path: Path, store: TokenStore
) -> None:
    other = mix_draft(pairing=Pairing(encoder_fingerprint="f" * 64))
    path = write_directory(tmp_path / "bundle", other, RANKER_FILES)
    with pytest.raises(PairingError, match=f"{'f' * 64}.*{ENCODER}"):
        Ranker.load(path, store=store)


def test_tokens_of_another_shape_are_refused(tmp_path: Path, store: TokenStore) -> None:
    wider = mix_draft(embedding=Embedding(tokens=3, hidden_size=HIDDEN, dtype="float16"))
    path = write_directory(tmp_path / "bundle", wider, RANKER_FILES)
    with pytest.raises(PairingError, match=r"\[3, 8\].*\[2, 8\]"):
        Ranker.load(path, store=store)


def test_a_ranker_without_an_encoder_takes_no_store(tmp_path: Path, store: TokenStore) -> None:
    path = write_directory(tmp_path / "bundle", mix_draft(pairing=None), RANKER_FILES)
    with pytest.raises(PairingError, match=ENCODER):
        Ranker.load(path, store=store)


def test_an_encoder_is_not_a_ranker(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "bundle", encoder_draft(), ENCODER_FILES)
    with pytest.raises(
        InvalidRequest, match=r"kind: is 'item-encoder', where ranker is looked for: give another"
    ):
        Ranker.load(path)


def test_a_load_that_fails_lets_go_of_the_store(tmp_path: Path, store: TokenStore) -> None:
    store.close()
    path = write_directory(tmp_path / "bundle", mix_draft(), RANKER_FILES)
    with pytest.raises(BundleError):  # its graphs are no graphs
        Ranker.load(path, store=tmp_path / "tokens")
    TokenStore.open(tmp_path / "tokens", read_only=True).close()


def test_a_cancelled_future_reaches_the_queue(tmp_path: Path) -> None:
    reached, opened = threading.Event(), threading.Event()

    def hold(kind: str, batch: PrefixBatch) -> None:
        reached.set()
        assert opened.wait(WAIT_S)

    backend = ReferenceBackend(before_pass=hold)
    with ranker_of(tmp_path, text_draft(), backend=backend) as ranker:
        first = ranker.submit("red", ["shoes"])
        assert reached.wait(WAIT_S)
        second = ranker.submit("green", ["boots"])
        with pytest.raises(DeadlineExceeded, match=r"timeout_s=0.001"):
            ranker.score("green", ["boots"], timeout_s=0.001)
        assert second.cancel()
        opened.set()
        assert isinstance(first.result(WAIT_S), ScoreResult)
        assert wait([second], WAIT_S).done
        ranker.score("red", ["shoes"])
    assert all(GREEN not in run.ids for _, batch in backend.passes for run in batch.runs)


def test_a_deadline_that_passed_while_tokenizing_is_told_as_the_caller_gave_it(tmp_path: Path) -> None:
    with (
        ranker_of(tmp_path, text_draft()) as ranker,
        pytest.raises(DeadlineExceeded, match=r"timeout_s=1e-09 ran out"),
    ):
        ranker.submit("red", ["shoes"], 1e-9).result(WAIT_S)


@pytest.mark.parametrize("timeout_s", [float("nan"), -1, "1"])
def test_a_timeout_that_is_no_time_is_refused(tmp_path: Path, timeout_s: Any) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        for call in (ranker.score, ranker.submit):
            with pytest.raises(InvalidRequest, match="timeout_s is"):
                call("red", ["shoes"], timeout_s)


def test_an_infinite_timeout_is_no_limit(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        assert len(ranker.score("red", ["shoes"], float("inf")).scores) == 1


def test_items_of_a_generator_are_scored(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        drawn = ranker.score("red", (text for text in ["shoes", "boots"]))
        np.testing.assert_array_equal(drawn.scores, ranker.score("red", ["shoes", "boots"]).scores)
        assert len(ranker.submit("red", iter(["shoes"])).result(WAIT_S).scores) == 1


MALFORMED = [None, b"x", 7, {"a": "b"}, [0.5], [True], np.zeros((2, 2), np.int64), np.array([True]), "\ud800"]


@pytest.mark.parametrize("item", MALFORMED, ids=repr)
def test_a_malformed_item_is_refused_in_the_words_of_the_client(tmp_path: Path, item: Any) -> None:
    with pytest.raises(InvalidRequest) as remote:
        wire.score_request("", "red", ["shoes", item], "error", "skip")
    with ranker_of(tmp_path, text_draft()) as ranker, pytest.raises(InvalidRequest) as local:
        ranker.score("red", ["shoes", item])
    assert str(local.value) == str(remote.value)


def test_a_closed_ranker_is_unavailable(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        ranker.close()
        with pytest.raises(Unavailable, match="closed; load the bundle again"):
            ranker.score("red", ["shoes"])


def test_it_describes_what_it_takes(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path / "mix", mix_draft(), store) as ranker:
        described = ranker.describe()
    assert described.item_forms == ("text", "token_ids", "embeddings", "key")
    assert (described.labels, described.prompt_fields) == (("yes", "no"), ("query",))
    assert (described.embedding_tokens, described.hidden_size) == (2, HIDDEN)
    assert described.paired_encoder == ENCODER
    with ranker_of(tmp_path / "text", text_draft()) as ranker:
        assert ranker.describe().item_forms == ("text", "token_ids")
        assert ranker.describe().fingerprint == ranker.score("red", ["shoes"]).fingerprint


def test_a_classification_head_scores_by_its_first_logit(tmp_path: Path) -> None:
    labels = Labels(source="classification_head", names=["relevant", "rest"], ids=[0, 1])
    draft = mix_draft(embedding=None, pairing=None, labels=labels)
    with ranker_of(tmp_path, draft) as ranker:
        result = ranker.score("red", ["shoes", "boots"])
    np.testing.assert_array_equal(result.scores, result.logits[:, 0])


def test_label_probabilities_survive_large_logits() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [500, 500]], np.float32)
    np.testing.assert_allclose(label_scores(logits, "lm_head"), [1, 0, 0.5])
