"""Tokens by key over the wire, and items that the store lacks: skipped, refused, or encoded on the spot."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.types import Item, ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.jobs.row_encoder import content_hash
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk import Client
from support.hash_encoder import ServedHashEncoder
from support.servers.reference_bundles import load_reference, reference_bundle
from support.servers.serving import LOCAL
from support.small_rankers import ENCODER

PREFIX = "red shoes"
STORED = {"a": "blue boots", "b": "green"}
SPEC = TokenSpec(2, 8, "float16")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(reference_bundle(tmp_path_factory.mktemp("bundle"), "jobs", "1", 1))


@pytest.fixture
def encoder() -> ServedHashEncoder:
    return ServedHashEncoder(ENCODER)


@pytest.fixture
def path(tmp_path: Path, encoder: ServedHashEncoder) -> Path:
    """A store that has some items."""
    with open_store(tmp_path / "tokens", create=True) as store:
        rows = encoder.encode(list(STORED.values()))
        entries = [TokenEntry(key, row, bytes(16)) for key, row in zip(STORED, rows, strict=True)]
        store.namespace(ENCODER, SPEC, create=True).put_many(entries)
    encoder.calls.clear()
    return tmp_path / "tokens"


@contextmanager
def _client(bundle: Bundle, path: Path, encoder: ServedHashEncoder | None, **how: bool) -> Iterator[Client]:
    with open_store(path, **how) as store, load_reference(bundle, store) as ranker:
        models = {"jobs": ranker} | ({"encoder": encoder} if encoder else {})
        with Server(models, LOCAL) as server, Client(server.address, timeout_s=20.0) as client:  # type: ignore[arg-type]
            yield client


def test_lookup_gives_the_stored_tokens_and_says_what_is_not_there(
    bundle: Bundle, path: Path, encoder: ServedHashEncoder
) -> None:
    with _client(bundle, path, encoder, read_only=True) as client:
        found = client.lookup(["b", "absent", "a"])
        assert client.lookup([]).embeddings.shape == (0, 2, 8)
    np.testing.assert_array_equal(found.embeddings[[2, 0]], encoder.encode(list(STORED.values())))
    assert found.embeddings.dtype == np.float16
    assert np.isnan(found.embeddings[1]).all()
    assert found.status == (ItemStatus.OK, ItemStatus.NOT_FOUND, ItemStatus.OK)
    assert found.messages == ("", f"no tokens of key 'absent' under encoder {ENCODER}", "")
    assert found.fingerprint == ENCODER


def test_a_model_without_a_store_looks_nothing_up(bundle: Bundle) -> None:
    with (
        load_reference(bundle) as ranker,
        Server({"jobs": ranker}, LOCAL) as server,
        Client(server.address) as client,
    ):
        with pytest.raises(NotFound, match="names no model that looks up, and this server has none"):
            client.lookup(["a"])
        with pytest.raises(InvalidRequest, match="'encode', and 'jobs' reads no token store"):
            client.score(PREFIX, [Key("a", "blue")], on_missing="encode")


@pytest.mark.parametrize("others", [[], ["green", [5, 6]]], ids=["keys", "mixed"])
def test_missing_items_are_encoded_in_the_same_call_and_score_as_stored_ones(
    bundle: Bundle, path: Path, encoder: ServedHashEncoder, others: list[Item]
) -> None:
    texts = ["red", "red boots"]
    tokens = encoder.encode(texts)
    encoder.calls.clear()
    items: list[Item] = [Key("x", texts[0]), Key("a", "unread"), *others, Key("y", texts[1]), Key("gone")]
    with _client(bundle, path, encoder, read_only=True) as client:
        result = client.score(PREFIX, items, on_missing="encode")
        expected = client.score(PREFIX, [tokens[0], Key("a"), *others, tokens[1], Key("gone")])
    np.testing.assert_array_equal(result.scores, expected.scores)
    assert encoder.calls == [texts]
    ok = (ItemStatus.OK,) * len(others)
    encoded = ItemStatus.ENCODED
    assert result.status == (encoded, ItemStatus.OK, *ok, encoded, ItemStatus.NOT_FOUND)
    assert np.isnan(result.scores[-1])


def test_encoded_items_are_written_back_as_a_job_would_write_them(
    bundle: Bundle, path: Path, encoder: ServedHashEncoder
) -> None:
    with _client(bundle, path, encoder) as client:
        for status in (ItemStatus.ENCODED, ItemStatus.OK):
            assert client.score(PREFIX, [Key("x", "red")], on_missing="encode").status == (status,)
    assert len(encoder.calls) == 1
    with open_store(path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        assert namespace.content_hashes(["x"]) == [content_hash("red")]
        np.testing.assert_array_equal(namespace.read(["x"]).tokens, encoder.encode(["red"]))


def test_where_the_store_is_only_read_they_stay_in_memory_until_it_is_written(
    bundle: Bundle, path: Path, encoder: ServedHashEncoder
) -> None:
    with _client(bundle, path, encoder, read_only=True) as client:
        assert client.score(PREFIX, [Key("x", "red")], on_missing="encode").status == (ItemStatus.ENCODED,)
        assert client.score(PREFIX, [Key("x", "red")], on_missing="encode").status == (ItemStatus.OK,)
        assert client.lookup(["x"]).status == (ItemStatus.OK,)
    assert len(encoder.calls) == 1
    with open_store(path, read_only=True) as store:
        assert store.namespace(ENCODER).content_hashes(["x"]) == [None]


def test_a_text_that_cannot_be_encoded_fails_alone(
    bundle: Bundle, path: Path, encoder: ServedHashEncoder
) -> None:
    items = [Key("x", "malformed"), Key("y", "red"), Key("z", "z" * 41), Key("a", "")]
    with _client(bundle, path, encoder, read_only=True) as client:
        result = client.score(PREFIX, items, on_missing="encode")
        cut = client.score(PREFIX, [Key("z", "z" * 41)], on_missing="encode", truncation="truncate")
    failed = ItemStatus.FAILED
    assert result.status == (failed, ItemStatus.ENCODED, failed, ItemStatus.OK)
    assert result.messages[0] == "is malformed"
    assert result.messages[2] == "has 41 characters, the limit is 40"
    assert np.isnan(result.scores).tolist() == [True, False, True, False]
    assert cut.status == (ItemStatus.ENCODED,)


def test_without_the_paired_encoder_a_missing_item_is_an_error_that_says_so(
    bundle: Bundle, path: Path
) -> None:
    for other in (None, ServedHashEncoder("another")):
        with _client(bundle, path, other, read_only=True) as client:
            assert client.score(PREFIX, [Key("a", "unread")], on_missing="encode").status == (ItemStatus.OK,)
            with pytest.raises(NotFound, match=f"item 1: .* 'x', and this server has no encoder {ENCODER}"):
                client.score(PREFIX, [Key("a"), Key("x", "red")], on_missing="encode")


def test_a_ranker_in_process_says_who_encodes(bundle: Bundle, path: Path) -> None:
    with (
        open_store(path, read_only=True) as store,
        load_reference(bundle, store) as ranker,
        pytest.raises(InvalidRequest, match="on_missing is 'encode': a server does that"),
    ):
        ranker.score(PREFIX, [Key("x", "red")], on_missing="encode")
