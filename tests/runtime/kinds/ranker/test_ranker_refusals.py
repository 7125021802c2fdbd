"""`Ranker` refuses what it cannot read, score or pair with, in words that name it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import BundleError, InvalidRequest, PairingError, Unavailable
from rankport.protos.messages import wire
from rankport.protos.types import Key
from rankport.runtime.bundle.manifest import Embedding, Pairing
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store
from support.bundle_samples import ENCODER_FILES, RANKER_FILES, encoder_draft, write_directory
from support.reference_backend import HIDDEN
from support.small_rankers import EMBEDDINGS, ENCODER, mix_draft, ranker_of, text_draft


def test_an_error_behind_a_missing_key_names_the_right_item(tmp_path: Path, store: TokenStore) -> None:
    with (
        ranker_of(tmp_path, mix_draft(), store) as ranker,
        pytest.raises(InvalidRequest, match="item 2"),
    ):
        ranker.score("red", [Key("lost"), "shoes", [999]])


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


def test_a_ranker_of_texts_ignores_no_store_in_silence(tmp_path: Path, store: TokenStore) -> None:
    path = write_directory(tmp_path / "bundle", text_draft(), RANKER_FILES)
    with pytest.raises(InvalidRequest, match="takes texts alone, no embedding tokens: leave the store out"):
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
    open_store(tmp_path / "tokens", read_only=True).close()


@pytest.mark.parametrize("timeout_s", [float("nan"), -1, "1"])
def test_a_timeout_that_is_no_time_is_refused(tmp_path: Path, timeout_s: Any) -> None:
    with ranker_of(tmp_path, text_draft()) as ranker:
        for call in (ranker.score, ranker.submit):
            with pytest.raises(InvalidRequest, match="timeout_s is"):
                call("red", ["shoes"], timeout_s)


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
