"""What the names of labels say, and the repair of labels that no span can have."""

import numpy as np
import pytest

from rankport.protos.columns import offsets_of
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.spans import spans_of, tags_of


@pytest.mark.parametrize(
    ("names", "scheme", "types"),
    [
        (["O", "B-city", "I-city", "B-date"], "BIO", ("city", "date")),
        (["B-city", "I-city", "E-city", "S-city", "O"], "BIOES", ("city",)),
        (["O", "B-x-y", "I-x-y", "L-x-y", "U-x-y"], "BILOU", ("x-y",)),
        (["O", "I-city", "I-date"], "IO", ("city", "date")),
        (["city", "O", "date"], "IO", ("city", "date")),
        (["NOUN", "VERB"], "each", ("NOUN", "VERB")),
    ],
)
def test_names_say_the_scheme(names: list[str], scheme: str, types: tuple[str, ...]) -> None:
    read = LabelScheme.of(names)
    assert (read.scheme, read.types) == (scheme, types)


def test_types_that_only_begin_alike_are_types() -> None:
    for names in (["O", "b-city", "i-town"], ["I_city", "O"], ["b", "i", "o"], ["vitamin-b", "omega-3"]):
        assert set(LabelScheme.of(names).types) == set(names) - {"O"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["LABEL_0", "LABEL_1"], "'LABEL_0' says nothing"),
        (
            ["o", "b-city", "i-city"],
            "'b-city' and 'i-city' look like parts of a span: spell them B-city and I-city",
        ),
        (["O", "I_city", "B_city"], "'I_city' and 'B_city' look like parts of a span"),
        (["O", "city-B", "city-I"], "'city-B' and 'city-I' look like parts of a span"),
        (["O"], "name no span"),
        (["O", "B-city", "I-city", "X"], "'X' is neither O nor prefixed as 'B-city' is"),
        (["O", "B-city", "E-city", "L-city"], "the prefixes .* are of no one scheme"),
    ],
)
def test_labels_of_no_scheme_are_refused_by_name(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelScheme.of(names)


def found(names: list[str], *texts: str) -> list[list[tuple[int, int, str]]]:
    """Gives the spans of texts written as labels: unit places within the text."""
    scheme = LabelScheme.of(names)
    units = [text.split() for text in texts]
    labels = np.array([names.index(label) for text in units for label in text], np.int64)
    offsets = offsets_of(np.array([len(text) for text in units]))
    spans = spans_of(labels, np.ones(len(labels)), offsets, scheme)
    result: list[list[tuple[int, int, str]]] = [[] for _ in texts]
    for first, last, kind in zip(spans.first, spans.last, spans.types, strict=True):
        text = int(np.searchsorted(offsets, first, side="right")) - 1
        result[text].append((int(first - offsets[text]), int(last - offsets[text]), scheme.types[kind]))
    return result


BIO = ["O", "B-a", "I-a", "B-b", "I-b"]
BIOES = ["O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b"]


@pytest.mark.parametrize(
    ("names", "labels", "spans"),
    [
        (BIO, "B-a I-a O B-a", [(0, 2, "a"), (3, 4, "a")]),
        (BIO, "B-a B-a", [(0, 1, "a"), (1, 2, "a")]),
        (BIO, "O I-a I-a", [(1, 3, "a")]),  # no B before it
        (BIO, "B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),  # another type inside
        (BIOES, "B-a I-a E-a S-b", [(0, 3, "a"), (3, 4, "b")]),
        (BIOES, "S-a I-a E-a", [(0, 1, "a"), (1, 3, "a")]),  # nothing goes on behind S
        (BIOES, "B-a O E-a E-a", [(0, 1, "a"), (2, 3, "a"), (3, 4, "a")]),
        (BIOES, "B-a E-b", [(0, 1, "a"), (1, 2, "b")]),
        (["O", "a", "b"], "a a b O b", [(0, 2, "a"), (2, 3, "b"), (4, 5, "b")]),
        (["a", "b"], "a a b", [(0, 1, "a"), (1, 2, "a"), (2, 3, "b")]),
    ],
)
def test_labels_become_spans(names: list[str], labels: str, spans: list[tuple[int, int, str]]) -> None:
    assert found(names, labels) == [spans]


def test_a_span_ends_with_its_text() -> None:
    assert found(BIO, "O B-a", "I-a", "", "I-a O") == [[(1, 2, "a")], [(0, 1, "a")], [], [(0, 1, "a")]]


@pytest.mark.parametrize(
    ("names", "labels", "tags"),
    [
        (BIO, "O I-a I-a I-b", "O B-a I-a B-b"),
        (BIOES, "I-a I-a O B-b", "B-a E-a O S-b"),
        (["O", "I-a"], "I-a I-a O", "I-a I-a O"),
        (["O", "a"], "a O a", "a O a"),
    ],
)
def test_tags_spell_the_spans(names: list[str], labels: str, tags: str) -> None:
    scheme = LabelScheme.of(names)
    own = np.array([names.index(label) for label in labels.split()])
    spans = spans_of(own, np.ones(len(own)), np.array([0, len(own)]), scheme)
    assert " ".join(scheme.tag_names[tag] for tag in tags_of(spans, len(own), scheme)) == tags
