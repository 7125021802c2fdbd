"""`Ranker`: scores, statuses and messages of every form of item, over a real bundle's prompt and a real store."""

import threading
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded, NotFound, StoreError
from rankport.protos.types import Item, ItemStatus, Key, ScoreResult
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.bundle.manifest import Labels, Score
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.reference_backend import HIDDEN, LABELS, ReferenceBackend
from support.small_rankers import EMBEDDINGS, ENCODER, mix_draft, ranker_of, text_draft

WAIT_S = 30.0
CLS, SEP, QUERY, COLON, RED, GREEN, SHOES, BOOTS = 1, 2, 4, 5, 6, 7, 9, 10


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


def test_what_it_computed_and_read_is_counted(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path, mix_draft(), store) as ranker:
        for _ in range(2):
            ranker.score("red", ["shoes", Key("item1"), Key("nowhere")])
        counts = ranker.counts()
    engine = counts.engines["cpu"]
    assert (engine.stages["prefill"].tokens, engine.stages["score"].runs) == (4, 4)
    assert counts.cache is not None
    assert (counts.cache.lookups, counts.cache.hits, counts.cache.tokens_reused) == (2, 1, 4)
    assert counts.store is not None
    read = counts.store
    assert (read.host_keys + read.store_keys, read.missing_keys, read.device_keys) == (2, 2, 0)


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


def test_a_missing_key_fails_the_request_when_asked_to(tmp_path: Path, store: TokenStore) -> None:
    with ranker_of(tmp_path, mix_draft(), store) as ranker:
        with pytest.raises(NotFound, match=r"item 1: .*'lost'.*2 such items of 3"):
            ranker.score("red", [Key("item0"), Key("lost"), Key("gone")], on_missing="fail")
        with pytest.raises(NotFound, match="'lost'"):
            ranker.encode("red", [Key("lost")])


def test_a_ranker_whose_store_cannot_be_read_is_not_alive_and_scores_texts(
    tmp_path: Path, store: TokenStore
) -> None:
    with ranker_of(tmp_path, mix_draft(), store) as ranker:
        assert ranker.alive
        (tmp_path / "tokens").rename(tmp_path / "away")
        assert not ranker.alive
        with pytest.raises(StoreError, match="is gone"):
            ranker.score("red", [Key("item0")])
        assert ranker.score("red", ["shoes"]).status == (ItemStatus.OK,)
        (tmp_path / "away").rename(tmp_path / "tokens")
        assert ranker.alive
        assert ranker.score("red", [Key("item0")]).status == (ItemStatus.OK,)


def test_only_missing_keys_compute_nothing(tmp_path: Path, store: TokenStore) -> None:
    backend = ReferenceBackend()
    with ranker_of(tmp_path, mix_draft(), store, backend) as ranker:
        result = ranker.score("red", [Key("lost")])
    assert result.status == (ItemStatus.NOT_FOUND,)
    assert result.logits.shape == (1, LABELS)
    assert not backend.passes


EMPTY = "item is empty: it has no token of its own, or blanks alone; leave it out, or give it text"


@pytest.mark.parametrize("empty", ["", " \n\t", [], np.array([], np.int64)])
def test_an_empty_item_fails_and_the_others_are_scored_as_without_it(tmp_path: Path, empty: Item) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        result, without = (
            ranker.score("red", ["shoes", empty, [BOOTS]]),
            ranker.score("red", ["shoes", [BOOTS]]),
        )
        nothing = ranker.score("red", [empty, ""])
        with pytest.raises(InvalidRequest, match=r"item 1: is empty"):
            ranker.encode("red", ["shoes", empty])
    assert result.status == (ItemStatus.OK, ItemStatus.FAILED, ItemStatus.OK)
    assert result.messages == ("", EMPTY, "")
    np.testing.assert_array_equal(result.logits[[0, 2]], without.logits)
    np.testing.assert_array_equal(result.scores[[0, 2]], without.scores)
    assert np.isnan(result.scores[1])
    assert np.isnan(result.logits[1]).all()
    assert nothing.messages == (EMPTY, EMPTY)
    assert np.isnan(nothing.scores).all()


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


def test_an_infinite_timeout_is_no_limit(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        assert len(ranker.score("red", ["shoes"], float("inf")).scores) == 1


def test_items_of_a_generator_are_scored(tmp_path: Path) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        drawn = ranker.score("red", (text for text in ["shoes", "boots"]))
        np.testing.assert_array_equal(drawn.scores, ranker.score("red", ["shoes", "boots"]).scores)
        assert len(ranker.submit("red", iter(["shoes"])).result(WAIT_S).scores) == 1


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


@pytest.mark.parametrize(
    ("score", "read_out"),
    [
        (Score(kind="probability", transform="softmax"), "softmax over rest, relevant: relevant"),
        (Score(kind="logit", transform="log-odds"), "log-odds over rest, ' relevant': ' relevant'"),
        (Score(kind="probability", transform="sigmoid"), "sigmoid of relevant"),
        (Score(kind="logit", transform="none"), "logit of relevant"),
    ],
    ids=lambda value: value.transform if isinstance(value, Score) else "",
)
def test_scores_are_what_the_manifest_says_and_the_reply_says_it_too(
    tmp_path: Path, score: Score, read_out: str
) -> None:
    name = " relevant" if score.transform == "log-odds" else "relevant"
    labels = Labels(source="classification_head", names=["rest", name], ids=[0, 1], positive=1)
    draft = mix_draft(embedding=None, pairing=None, labels=labels, score=score)
    with ranker_of(tmp_path, draft) as ranker:
        result, described = ranker.score("red", ["shoes", "boots"]), ranker.describe()
        empty = ranker.score("red", [])
    rest, relevant = result.logits.astype(np.float64).T
    expected = {
        "softmax": np.exp(relevant) / (np.exp(rest) + np.exp(relevant)),
        "log-odds": relevant - rest,
        "sigmoid": 1 / (1 + np.exp(-relevant)),
        "none": relevant,
    }
    np.testing.assert_allclose(result.scores, expected[score.transform], rtol=1e-5)
    for said in (result, empty, described):
        assert (said.score_kind, said.read_out) == (score.kind, read_out)


def test_a_head_that_passes_over_padding_reads_an_item_before_it(tmp_path: Path, store: TokenStore) -> None:
    labels = Labels(source="classification_head", names=["a", "b"], ids=[0, 1], pad_token=SEP)
    with ranker_of(tmp_path, mix_draft(labels=labels), store) as ranker:
        result = ranker.score("red", ["shoes", [SEP, BOOTS, SEP, SEP], EMBEDDINGS[0], Key("item1")])
        with pytest.raises(InvalidRequest, match="item 2: is nothing but token 2, the pad token"):
            ranker.score("red", ["shoes", "", [SEP]])
        _, whole = ranker.encode("red", ["shoes"])
    runs = [run(SHOES), run(SEP, BOOTS), embedded(0), embedded(1)]
    np.testing.assert_allclose(result.logits, expected_logits(RED_PREFIX, runs), atol=1e-5)
    assert whole[0].ids.tolist() == [SHOES, SEP]
