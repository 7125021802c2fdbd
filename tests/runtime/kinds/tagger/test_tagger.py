"""`Tagger`: spans of texts and words at their own characters, however they are spelled, long or batched."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import ItemStatus
from rankport.runtime.bundle.manifest import Tagging
from rankport.runtime.kinds.tagger.tagger import Tagger
from rankport.runtime.server.lifecycle.warming import warm
from support.reading.taggers import NAMES, LabelledTokens, labels_of, tagger_bundle, tagger_of

WORDS = {
    "New": "B-city",
    "York": "I-city",
    "Ghent": "B-city",
    "sushi": "B-food",
    "İzmir": "B-city",
    "東": "B-city",
}


@contextmanager
def tagging(
    folder: Path, kind: str = "word-piece", words: dict[str, str] = WORDS, **changes: object
) -> Iterator[tuple[Tagger, LabelledTokens]]:
    backend = LabelledTokens(labels_of(kind, words))
    with tagger_of(tagger_bundle(folder, kind, **changes), backend) as tagger:
        yield tagger, backend


def found(tagger: Tagger, text: str) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.label) for span in tagger.tag([text]).spans(0)]


def test_it_says_that_it_reads_text_alone(tmp_path: Path) -> None:
    with tagging(tmp_path) as (tagger, _):
        assert tagger.describe().item_forms == ("text",)


def test_spans_are_at_their_characters(tmp_path: Path) -> None:
    text = "  sushi in\tNew  York, Ghent!"
    with tagging(tmp_path) as (tagger, _):
        result = tagger.tag([text, "two", "Ghent"])
    assert [(text[s.start : s.end], s.label) for s in result.spans(0)] == [
        ("sushi", "food"),
        ("New  York", "city"),
        ("Ghent", "city"),
    ]
    assert result.offsets.tolist() == [0, 3, 3, 4]
    probability = np.exp(3) / (np.exp(3) + len(NAMES) - 1)
    np.testing.assert_allclose(result.scores, probability, rtol=1e-6)
    assert set(result.status) == {ItemStatus.OK}
    assert set(result.messages) == {""}


@pytest.mark.parametrize(
    "before",
    [
        "👩‍🍳🚀 ",  # surrogate pairs elsewhere, one code point each here
        "ﬁsh ① ",  # normalized to more characters
        "cafe\u0301 ",  # normalized to fewer
        "İ ",  # in lower case two
        "東京 ",  # words without space
        "\u00a0\u3000 ",  # white space of other kinds
    ],
)
@pytest.mark.parametrize("kind", ["word-piece", "byte-level", "metaspace"])
def test_what_stands_before_moves_no_span(tmp_path: Path, before: str, kind: str) -> None:
    words = {"Ghent": "B-city"} if kind != "byte-level" else {" Ghent": "B-city"}
    with tagging(tmp_path, kind, words) as (tagger, _):
        alone = {word for word, _ in found(tagger, " Ghent")}
        assert alone == {"Ghent"}
        assert ("Ghent", "city") in [pair for pair in found(tagger, f"{before}Ghent") if pair[0] == "Ghent"]


def test_a_letter_that_grows_in_lower_case_is_one_character(tmp_path: Path) -> None:
    with tagging(tmp_path) as (tagger, _):
        assert found(tagger, "in İzmir or İzmir") == [("İzmir", "city")] * 2


def test_bytes_of_one_emoji_are_one_character_of_the_first_span(tmp_path: Path) -> None:
    """Each byte is a token; the first opens a span, and so does the second."""
    unit = Tagging(scheme="BIO", unit="token")
    with tagging(tmp_path, "byte-level", {}, tagging=unit) as (tagger, backend):
        text = "a🍣b"
        tagger.tag([text])
        sushi = backend.runs[-1][2:-2]
        assert len(sushi) > 1
        backend.labels = dict.fromkeys(sushi, 1)  # B-city, all of them
        result = tagger.tag([text])
    assert [(text[s.start : s.end], s.label) for s in result.spans(0)] == [("🍣", "city")]


def test_spans_that_share_a_character_begin_with_no_white_space_and_words_have_the_tag_of_the_first(
    tmp_path: Path,
) -> None:
    """The first byte of the emoji is a city, its other ones and what follows behind a space are food."""
    unit = Tagging(scheme="BIO", unit="token")
    with tagging(tmp_path, "byte-level", {}, tagging=unit) as (tagger, backend):
        texts = [["🍣\u3000bb", "b"], ["🍣", "b"]]
        tagger.tag([" ".join(texts[0])])
        city, food = NAMES.index("B-city"), NAMES.index("I-food")
        read = backend.runs[-1][1:-1]
        backend.labels = {**dict.fromkeys(read, food), read[0]: city}
        result = tagger.tag(texts)
        alone = tagger.tag([" ".join(words) for words in texts])
    assert [(s.start, s.end, s.label) for s in result.spans(0)] == [(0, 1, "city"), (2, 6, "food")]
    assert result.spans(0) == alone.spans(0)
    assert result.words is not None
    assert result.words.of(0) == ("B-city", "B-food")
    assert result.words.of(1) == ("B-city", "B-food")


def test_white_space_is_no_unit(tmp_path: Path) -> None:
    """A tokenizer of bytes makes tokens of line breaks; they neither have labels nor end a span."""
    words = {"New": "B-city", " York": "I-city", "\n": "B-food"}
    with tagging(tmp_path, "byte-level", words) as (tagger, _):
        assert found(tagger, "New\n York") == [("New\n York", "city")]


def test_words_have_tags_and_places_in_the_joined_text(tmp_path: Path) -> None:
    texts = [["sushi", "", "in", "New", "York"], [], ["York"]]
    with tagging(tmp_path) as (tagger, _):
        result = tagger.tag(texts)
    words = result.words
    assert words is not None
    assert [words.of(text) for text in range(3)] == [
        ("B-food", "O", "O", "B-city", "I-city"),
        (),
        ("B-city",),
    ]
    assert np.isnan(words.scores).tolist() == [False, True, False, False, False, False]
    joined = " ".join(texts[0])
    assert [joined[s.start : s.end] for s in result.spans(0)] == ["sushi", "New York"]
    assert list(zip(words.first.tolist(), words.last.tolist(), strict=True)) == [(0, 1), (3, 5), (0, 1)]


def test_words_are_tokenized_apart(tmp_path: Path) -> None:
    """A given word is one, whatever the tokenizer would split it into."""
    with tagging(tmp_path) as (tagger, _):
        result = tagger.tag([["New-York", "New"]])
    assert result.words is not None
    assert result.words.of(0) == ("B-city", "B-city")
    assert [(s.start, s.end) for s in result.spans(0)] == [(0, 8), (9, 12)]


def test_a_long_text_is_refused_cut_or_read_in_windows(tmp_path: Path) -> None:
    text = "the of and to in New York is on that by this with Ghent the sushi of"
    with tagging(tmp_path) as (tagger, backend):
        with pytest.raises(LimitExceeded, match=r"texts\[1\]: \d+ tokens, the model reads 12"):
            tagger.tag(["two", text])
        cut = tagger.tag([text, "Ghent"], truncation="truncate")
        assert cut.status == (ItemStatus.TRUNCATED, ItemStatus.OK)
        assert [text[s.start : s.end] for s in cut.spans(0)] == ["New York"]
        backend.runs.clear()
        whole = tagger.tag(["Ghent", text], truncation="windows")
        assert [text[s.start : s.end] for s in whole.spans(1)] == ["New York", "Ghent", "sushi"]
        count = len(backend.runs) - 1
        assert count > 1
        assert whole.messages == ("", f"read in {count} overlapping windows")
        assert whole.status == (ItemStatus.OK, ItemStatus.OK)
        assert max(map(len, backend.runs)) == 12
        backend.runs.clear()
        assert [(s.start, s.end) for s in tagger.tag([text], truncation="windows", stride=9).spans(0)] == [
            (s.start, s.end) for s in whole.spans(1)
        ]
        assert len(backend.runs) > count


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("Ghent", "texts is a str"),
        ([[1, 2]], r"texts\[0\]\[0\] is an int; a tagger reads text or words"),
        (["Ghent", ["Ghent"]], r"texts\[1\] is a list and texts\[0\] a text"),
        ([["Ghent"], "Ghent"], r"texts\[1\] is a text and texts\[0\] a list"),
        (["ok", "half \ud83c of a pair"], r"texts\[1\]: '\\ud83c' at character 5 is half .*: give it whole"),
        ([["half", "\udf63"]], r"texts\[0\]\[1\]: '\\udf63' at character 0 is half of a character"),
        ([7], r"texts\[0\] is an int; give a text or a list of words"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, texts: object, message: str) -> None:
    with tagging(tmp_path) as (tagger, _), pytest.raises(InvalidRequest, match=message):
        tagger.tag(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": "cut"}, "truncation is 'cut'; give one of error, truncate"),
        ({"stride": 3}, "it goes with truncation 'windows'"),
        ({"truncation": "windows", "stride": 10}, "share 0 to 9 of their 10 tokens"),
        ({"truncation": "windows", "stride": -1}, "stride is -1: it is how many tokens neighbouring windows"),
        ({"truncation": "windows", "stride": 1.5}, r"stride is 1\.5: it is how many tokens"),
        ({"truncation": "windows", "stride": True}, "stride is True: it is how many tokens"),
    ],
)
def test_options_are_refused_by_name(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with tagging(tmp_path) as (tagger, _), pytest.raises(InvalidRequest, match=message):
        tagger.tag(["Ghent"], **options)  # type: ignore[arg-type]


def test_no_texts_give_an_empty_result(tmp_path: Path) -> None:
    with tagging(tmp_path) as (tagger, _):
        result = tagger.tag([])
    assert (len(result.starts), result.offsets.tolist(), result.status) == (0, [0], ())


@pytest.mark.parametrize(
    ("texts", "offsets"),
    [
        (["", "Ghent", " \n"], [0, 0, 1, 1]),
        ([[], ["Ghent"], [" ", ""]], [0, 0, 1, 1]),
        (["", " "], [0, 0, 0]),
    ],
)
def test_an_empty_text_fails_alone(tmp_path: Path, texts: Any, offsets: list[int]) -> None:
    with tagging(tmp_path) as (tagger, _):
        result = tagger.tag(texts)
    assert result.offsets.tolist() == offsets
    empty = [status is ItemStatus.FAILED for status in result.status]
    assert empty == [not "".join(text).strip() for text in texts]
    told = "text is empty: it has no token of its own, or blanks alone; leave it out, or give it text"
    assert set(result.messages) - {""} == {told}


def test_a_text_without_a_finite_logit_fails_alone(tmp_path: Path) -> None:
    class Poisoned(LabelledTokens):
        def compute(self, texts):  # type: ignore[no-untyped-def]
            rows = super().compute(texts)
            rows[texts.ids == poison] = np.nan
            return rows

    (poison,) = labels_of("word-piece", {"sushi": "O"})
    backend = Poisoned(labels_of("word-piece", WORDS))
    with closing(tagger_of(tagger_bundle(tmp_path), backend)) as tagger:
        result = tagger.tag([["Ghent"], ["New", "sushi"]])
    assert result.status == (ItemStatus.OK, ItemStatus.FAILED)
    assert "not finite" in result.messages[1]
    assert result.offsets.tolist() == [0, 1, 1]
    assert result.words is not None
    assert result.words.of(1) == ("O", "O")
    assert np.isnan(result.words.scores[1:]).all()


def test_results_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    texts = ["New York", "the sushi of Ghent", "in", "", "sushi and New York by Ghent", "York"] * 7
    with tagging(tmp_path) as (tagger, _):
        together = tagger.tag(texts)
        for index, text in enumerate(texts[:6]):
            assert tagger.tag([text]).spans(0) == together.spans(index + 6)


def test_a_server_warms_it_up(tmp_path: Path) -> None:
    with tagging(tmp_path) as (tagger, _):
        warm(tagger, 20.0)
