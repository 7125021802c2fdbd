"""Requests that do not fit prompt, tokenizer or store are all named, without a model."""

from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.options.check_requests import RequestContents, RequestForm, check_requests
from rankport.exporters.options.reference_file import EmbeddedText, Reference, ScoredRequest
from rankport.exporters.options.requests_file import JudgedRequest, RealRequest
from rankport.protos.errors import InvalidRequest, PairingError
from rankport.protos.types import Item, Key, Prefix
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.bundle_samples import encoder_draft, tokenizer_json
from support.reference_backend import HIDDEN
from support.small_rankers import EMBEDDINGS, ENCODER, mix_draft, text_draft


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(tokenizer_json())
    return Tokenizer.from_file(file)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.lmdb"
    with open_store(path, create=True) as opened:
        spec = TokenSpec(tokens=2, hidden_size=HIDDEN, dtype="float16")
        tokens = opened.namespace(ENCODER, spec, create=True)
        tokens.put_many([TokenEntry("known", EMBEDDINGS[0], content_hash=b"0" * 16)])
    return path


def judged(*rows: tuple[Prefix, Item]) -> RequestContents:
    return RequestContents(
        judged=[
            JudgedRequest(prefix, (item,), (1.0,), f"judged line {n}")
            for n, (prefix, item) in enumerate(rows, 1)
        ]
    )


def complaints(
    contents: RequestContents, draft: ManifestDraft, tokenizer: Tokenizer | None, store: Path | None = None
) -> str:
    with pytest.raises(InvalidRequest) as raised:
        check_requests(contents, RequestForm(draft, tokenizer), store)
    return str(raised.value)


def test_good_requests_of_every_form_pass(tokenizer: Tokenizer, store: Path) -> None:
    rows = judged(("red", "shoes"), ({"query": "blue"}, [4, 5]), ([4, 5], Key("known")))
    check_requests(rows, RequestForm(mix_draft(), tokenizer), store)


def test_every_line_that_does_not_fit_is_listed_with_its_reason(tokenizer: Tokenizer, store: Path) -> None:
    rows = judged(
        ({"qeury": "red"}, "shoes"),
        ("red", Key("absent")),
        ("red", "shoes"),
        ("red red red red red", "shoes"),
        ("red", "boots boots boots boots boots"),
        ("red", [99]),
    )
    lines = complaints(rows, mix_draft(), tokenizer, store).splitlines()
    assert lines[0] == "5 of 6 lines cannot be used:"
    expected = [
        "judged line 1: prefix: fields missing query, unknown qeury",
        "judged line 2: item 0: no tokens of key 'absent'",
        "judged line 4: prefix: segment 'query' has 5 tokens",
        "judged line 5: item 0",
        "judged line 6: item 0",
    ]
    assert [start in line for start, line in zip(expected, lines[1:], strict=True)] == [True] * 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("red", Key("known")), "loaded without a token store"),
        (("red", "shoes"), "has no tokenizer"),
    ],
)
def test_what_a_form_of_item_needs_is_told(
    row: tuple[Prefix, Item], message: str, tokenizer: Tokenizer
) -> None:
    by_key = isinstance(row[1], Key)
    draft = (
        mix_draft()
        if by_key
        else text_draft().model_copy(
            update={
                "tokenizer": None,
                "prompt": encoder_draft().prompt.model_copy(update={"item": text_draft().prompt.item[:1]}),
            }
        )
    )
    assert message in complaints(
        judged(row if by_key else ([4], row[1])), draft, tokenizer if by_key else None
    )


def test_keys_of_a_ranker_of_texts_are_told(tokenizer: Tokenizer, store: Path) -> None:
    assert "takes text or token ids only" in complaints(
        judged(("red", Key("known"))), text_draft(), tokenizer, store
    )


def test_a_store_of_another_encoder_is_told(tokenizer: Tokenizer, store: Path) -> None:
    other = mix_draft(pairing=mix_draft().pairing.model_copy(update={"encoder_fingerprint": "f" * 64}))  # type: ignore[union-attr]
    with pytest.raises(PairingError, match="f" * 64):
        check_requests(judged(("red", "shoes")), RequestForm(other, tokenizer), store)


def test_long_texts_to_calibrate_on_are_cut_and_no_fault(tokenizer: Tokenizer) -> None:
    row = RealRequest("red red red red red", ("boots boots boots boots boots",), "line 1")
    check_requests(RequestContents(calibration=[row]), RequestForm(text_draft(), tokenizer), None)


def test_an_owners_line_is_named_where_its_pair_stands(tokenizer: Tokenizer) -> None:
    request = ScoredRequest("red", ("shoes", [99], "boots"), (0.1, 0.2, 0.3), ("line 1", "line 7", "line 9"))
    contents = RequestContents(reference=Reference("a" * 64, "none", requests=(request,)))
    assert complaints(contents, text_draft(), tokenizer).startswith("line 7: item 0")


def test_an_owners_texts_for_an_item_encoder_are_checked(tokenizer: Tokenizer) -> None:
    text = EmbeddedText("red shoes", np.ones((1, 4)), "line 3")
    contents = RequestContents(reference=Reference("a" * 64, "none", embeddings=(text,)))
    check_requests(contents, RequestForm(encoder_draft(), tokenizer), None)
