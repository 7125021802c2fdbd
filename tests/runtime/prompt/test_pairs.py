"""Pairs of texts cut as the tokenizers library cuts them."""

import random

import numpy as np
import pytest
import tokenizers

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.runtime.bundle.manifest import Limits, ManifestDraft, ModelShape, Pair, Prompt, Segment
from rankport.runtime.prompt.pairs import PairEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer

WORDS = [f"w{number}" for number in range(40)]
SPECIAL = ["[CLS]", "[SEP]", "[UNK]"]
CUTS = {"longest-first": "longest_first", "only-first": "only_first", "only-second": "only_second"}


def word_tokenizer() -> tokenizers.Tokenizer:
    """A word a token, pairs framed as BERT does."""
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    return made


def pair_encoder(
    max_tokens: int, cut: str = "longest-first", keep: str = "start", own_limit: int | None = None
) -> PairEncoder:
    separator = Segment(special=["[SEP]"])
    prompt = Prompt(
        prefix=[
            Segment(special=["[CLS]"]),
            Segment(field="query", keep=keep, max_tokens=own_limit),  # type: ignore[arg-type]
            separator,
        ],
        item=[Segment(item=True, keep=keep), separator],  # type: ignore[arg-type]
    )
    draft = ManifestDraft.model_construct(
        prompt=prompt,
        shape=ModelShape(hidden_size=8, vocab_size=len(SPECIAL) + len(WORDS), layers=[]),
        limits=Limits(max_prefix_tokens=max_tokens, max_item_tokens=max_tokens),
        pair=Pair(max_tokens=max_tokens, cut=cut),  # type: ignore[arg-type]
        embedding=None,
        tokenizer="tokenizer.json",
    )
    return PairEncoder(draft, Tokenizer(word_tokenizer()))


def text(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def any_cut_fits(cut: str, first: str, seconds: list[str], room: int) -> bool:
    """Whether a pair fits with one token of the text that is cut."""
    lengths = [(len(first.split()), len(second.split())) for second in seconds]
    return all((a if cut == "only-second" else b) < room or a + b <= room for a, b in lengths)


def test_a_first_text_that_is_cut_to_its_own_limit_cuts_each_of_its_pairs() -> None:
    encoder = pair_encoder(20, own_limit=2)
    assert encoder.encode("w1 w2 w3", ["w4", "", "w5"], "truncate", skip_empty=True).truncated.tolist() == [
        0,
        2,
    ]
    assert not len(encoder.encode("w1 w2", ["w4"], "truncate").truncated)
    firsts, seconds = ItemColumns.of(["w1 w2 w3", "w1", "w1 w2 w3"]), ItemColumns.of(["w4", "w5", " "])
    assert encoder.encode_apart(firsts, seconds, "truncate", skip_empty=True).truncated.tolist() == [0]


@pytest.mark.parametrize("keep", ["start", "end"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("max_tokens", [12, 13])
def test_pairs_are_cut_as_tokenizers_cuts_them(max_tokens: int, cut: str, keep: str) -> None:
    encoder, library = pair_encoder(max_tokens, cut, keep), word_tokenizer()
    direction = "right" if keep == "start" else "left"
    library.enable_truncation(max_tokens, strategy=CUTS[cut], direction=direction)
    rng, compared = random.Random(max_tokens), 0
    for _ in range(60):
        first, seconds = text(rng, 11), [text(rng, 14) for _ in range(3)]
        if cut != "longest-first" and not any_cut_fits(cut, first, seconds, max_tokens - 3):
            with pytest.raises(LimitExceeded, match=f"of which {cut} cuts one: shorten the other"):
                encoder.encode(first, seconds, "truncate")
            continue
        encoded = encoder.encode(first, seconds, "truncate")
        assert encoded.runs.seconds is not None
        for run, begin, second in zip(encoded.runs, encoded.runs.seconds, seconds, strict=True):
            expected = library.encode(first, second)
            assert run.ids.tolist() == expected.ids
            assert begin == expected.type_ids.index(1)
            compared += 1
    assert compared > 20


FAR, FURTHER = " ".join(WORDS * 1200), " ".join(WORDS * 1300)


@pytest.mark.parametrize(
    ("first", "second", "cut"),
    [
        ("w1 w2", FAR, "longest-first"),
        (FAR, "w1 w2", "longest-first"),
        (FAR, FURTHER, "longest-first"),
        (FURTHER, FAR, "longest-first"),
        (FAR, " ".join(WORDS * 2), "longest-first"),
        ("w1 w2", FAR, "only-second"),
        (FAR, "w1 w2", "only-first"),
    ],
)
def test_far_texts_are_cut_as_if_all_were_read(first: str, second: str, cut: str) -> None:
    encoder, library = pair_encoder(14, cut), word_tokenizer()
    library.enable_truncation(14, strategy=CUTS[cut])
    near = {FAR: " ".join(WORDS * 3), FURTHER: " ".join(WORDS * 4)}  # which the library cuts in its memory
    expected = library.encode(near.get(first, first), near.get(second, second)).ids
    (run,) = encoder.encode(first, [second], "truncate").runs
    (apart,) = encoder.encode_apart(ItemColumns.of([first]), ItemColumns.of([second]), "truncate").runs
    assert run.ids.tolist() == apart.ids.tolist() == expected
    with pytest.raises(LimitExceeded, match="item 0: more than 28 tokens with the prefix's"):
        encoder.encode(first, [second])


def test_what_is_cut_is_told_by_place_and_refused_where_nobody_asked_for_a_cut() -> None:
    encoder = pair_encoder(10)
    items = ["w1", "w1 w2 w3 w4 w5 w6 w7"]
    assert encoder.encode("w0 w1", items, "truncate").truncated.tolist() == [1]
    with pytest.raises(LimitExceeded, match=r"item 1: 9 tokens with the prefix's 2, the pair has room for 7"):
        encoder.encode("w0 w1", items)
    assert len(encoder.encode("w0", []).runs) == 0
    with pytest.raises(InvalidRequest, match="fields missing"):
        encoder.encode({"q": "w0"}, items)


def test_token_ids_as_prefix_are_all_before_the_item_and_never_cut() -> None:
    encoder = pair_encoder(8)
    encoded = encoder.encode([0, 5, 6, 1], ["w1 w2 w3 w4 w5 w6", [7]], "truncate")
    assert [run.ids.tolist() for run in encoded.runs] == [[0, 5, 6, 1, 4, 5, 6, 1], [0, 5, 6, 1, 7, 1]]
    np.testing.assert_array_equal(encoded.runs.seconds, [4, 4])
    with pytest.raises(LimitExceeded, match="do not fit"):
        encoder.encode([0, 5, 6, 7, 8, 9, 10, 1], ["w1"], "truncate")


@pytest.mark.parametrize("cut", CUTS)
def test_pairs_with_first_texts_of_their_own_are_as_each_alone(cut: str) -> None:
    encoder, rng = pair_encoder(14, cut), random.Random(3)
    firsts, seconds = [text(rng, 5) for _ in range(20)], [text(rng, 5) for _ in range(20)]
    apart = encoder.encode_apart(ItemColumns.of(firsts), ItemColumns.of(seconds), "truncate")
    assert apart.runs.seconds is not None
    for place, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        alone = encoder.encode(first, [second], "truncate")
        assert alone.runs.seconds is not None
        assert apart.runs.run(place).ids.tolist() == alone.runs.ids.tolist()
        assert apart.runs.seconds[place] == alone.runs.seconds[0]


def test_a_first_text_that_is_none_is_told_by_its_place() -> None:
    encoder = pair_encoder(14)
    with pytest.raises(InvalidRequest, match="first texts: item 1"):
        encoder.encode_apart(ItemColumns.of(["w1", [99]]), ItemColumns.of(["w1", "w2"]))


def test_a_pair_of_which_either_text_is_empty_is_told_apart() -> None:
    encoder = pair_encoder(14)
    firsts, seconds = ["w1", "", "w3", "w4", " "], ["w11 w12", "w21", [], "w41", "w51"]
    apart = encoder.encode_apart(ItemColumns.of(firsts), ItemColumns.of(seconds), skip_empty=True)
    assert apart.places.tolist() == [0, 3]
    assert apart.empty.tolist() == [1, 2, 4]
    for place, run in zip((0, 3), apart.runs, strict=True):
        assert run.ids.tolist() == encoder.encode(firsts[place], [seconds[place]]).runs.ids.tolist()
    with pytest.raises(InvalidRequest, match="first texts: item 1: is empty"):
        encoder.encode_apart(ItemColumns.of(firsts), ItemColumns.of(seconds))


def test_items_without_a_text_are_told_apart_and_a_prefix_may_have_none() -> None:
    encoder = pair_encoder(14)
    encoded = encoder.encode("", ["w1", "", "w3"], skip_empty=True)
    assert (encoded.places.tolist(), encoded.empty.tolist()) == ([0, 2], [1])
    assert encoded.runs.run(1).ids.tolist() == encoder.encode("", ["w3"]).runs.ids.tolist()
