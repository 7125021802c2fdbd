"""The owner's file: every bad line is named with what is wrong, and pairs of one prefix are one request."""

import json
from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.options.reference_file import ReferenceForm, ReferenceTransform, read_reference
from rankport.exporters.options.requests_file import read_judged
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Key


def written(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_requests_and_pairs_of_one_prefix_are_one_request(tmp_path: Path) -> None:
    file = written(
        tmp_path / "scores.jsonl",
        {"prefix": {"query": "red"}, "item": "shoes", "score": 0.5},
        {"prefix": "other", "items": ["boots", {"key": "k1"}], "scores": [1, -2.5]},
        {"prefix": {"query": "red"}, "item": [4, 5], "score": 0.25},
    )
    red, other = read_reference(file, "scores", "none").requests
    assert (red.prefix, red.items, red.scores) == ({"query": "red"}, ("shoes", [4, 5]), (0.5, 0.25))
    assert red.places == ("scores.jsonl line 1", "scores.jsonl line 3")
    assert (other.items, other.scores) == (("boots", Key("k1")), (1.0, -2.5))


def test_embeddings_of_one_or_more_tokens_have_one_shape(tmp_path: Path) -> None:
    one = written(tmp_path / "one.jsonl", {"item": "red shoes", "embedding": [3, 4]})
    two = written(tmp_path / "two.jsonl", {"item": "red shoes", "embedding": [[3, 4], [1, 0]]})
    assert read_reference(one, "embeddings", "none").embeddings[0].embedding.tolist() == [[3, 4]]
    assert read_reference(two, "embeddings", "none").embeddings[0].embedding.shape == (2, 2)
    pairs = written(tmp_path / "pairs.jsonl", {"a": "red", "b": "blue", "score": 0.5})
    assert read_reference(pairs, "embeddings", "rank").pairs[0].texts == ("red", "blue")


SCORED = {"prefix": "a", "items": ["b", "c"], "scores": [1, 2]}


@pytest.mark.parametrize(
    ("form", "transform", "rows", "message"),
    [
        (
            "scores",
            "none",
            [{"prefix": "a", "items": ["b"]}],
            "needs exactly the keys prefix, items and scores, or prefix, item and score, has prefix, items",
        ),
        ("scores", "none", [SCORED | {"scores": [1]}], "needs a list of 2 scores"),
        ("scores", "none", [SCORED | {"scores": [1, None]}], "score 1 must be a finite number, not None"),
        ("scores", "none", ['{"prefix": "a", "item": "b", "score": NaN}'], "finite number, not nan"),
        ("scores", "none", [SCORED | {"scores": [[1, 2], [3, 4]]}], "--reference-transform softmax"),
        ("scores", "softmax", [SCORED], "list of finite label logits"),
        ("scores", "none", [SCORED | {"items": ["b", " "]}], "item 1 is an empty text"),
        ("scores", "none", [SCORED | {"items": ["b", []]}], "item 1 has no token ids"),
        ("scores", "none", [SCORED | {"items": ["b", [1.5]]}], "whole numbers from 0 on, not 1.5"),
        ("scores", "none", [SCORED | {"prefix": {"query": 3}}], "prefix field 'query' is 3, must be text"),
        ("scores", "none", [SCORED | {"items": ["b", "b"]}], "line 1: scores an item of .* line 1 again"),
        (
            "scores",
            "none",
            [SCORED, {"prefix": "a", "item": "b", "score": 1}],
            "line 2: scores an item of .* line 1",
        ),
        ("embeddings", "none", [SCORED], "needs exactly the keys item and embedding, or a, b and score"),
        ("embeddings", "none", [{"item": "a", "embedding": [0, 0]}], "embedding is zero"),
        ("embeddings", "none", [{"item": "a", "embedding": []}], "finite numbers"),
        ("embeddings", "none", [{"item": "a", "embedding": [[1], [1, 2]]}], "differ in length"),
        ("embeddings", "none", [{"item": "", "embedding": [1]}], "text that is not empty"),
        ("embeddings", "none", [{"a": "a", "b": "b", "score": 1.5}], "cosine from -1 to 1"),
        ("embeddings", "sigmoid", [{"a": "a", "b": "b", "score": 1}], "sigmoid is for scores of a ranker"),
        (
            "embeddings",
            "none",
            [{"item": "a", "embedding": [1, 2]}, {"item": "b", "embedding": [1]}],
            r"line 2: embedding is \[1, 1\], that of .* \[1, 2\]",
        ),
        ("embeddings", "none", [{"item": "a", "embedding": [1]}, {"item": "a", "embedding": [1]}], "repeats"),
        (
            "embeddings",
            "none",
            [{"item": "a", "embedding": [1]}, {"a": "a", "b": "b", "score": 1}],
            "one file each",
        ),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    form: ReferenceForm, transform: ReferenceTransform, rows: list[object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_reference(written(tmp_path / "owner.jsonl", *rows), form, transform)


def test_all_bad_lines_are_listed_the_first_ten_in_full(tmp_path: Path) -> None:
    rows = [{"prefix": "a", "items": ["b"], "gains": [index % 2 - 1]} for index in range(26)]
    with pytest.raises(InvalidRequest) as raised:
        read_judged(written(tmp_path / "judged.jsonl", *rows))
    said = str(raised.value).splitlines()
    assert said[0] == "26 of 26 lines cannot be used:"
    assert said[1] == "  judged.jsonl line 1: gains must be numbers from 0 on, not [-1]"
    assert "line 2: no item has a positive gain" in said[2]
    assert (len(said), said[-1]) == (12, "  and 16 more")


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    row = {"prefix": "a\u2028b", "items": ["c\x85d"], "gains": [1]}
    file = tmp_path / "judged.jsonl"
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_judged(file)[0].prefix == "a\u2028b"


def test_embedding_arrays_are_of_the_numbers_given(tmp_path: Path) -> None:
    file = written(tmp_path / "owner.jsonl", {"item": "a", "embedding": [0.25, -1]})
    (row,) = read_reference(file, "embeddings", "none").embeddings
    np.testing.assert_array_equal(row.embedding, [[0.25, -1]])
