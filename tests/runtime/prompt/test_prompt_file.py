"""Prompt files: what is written is what is used, and a mistake is told with file, line and segment."""

from pathlib import Path

import pytest
import tokenizers

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.prompt_file import (
    load_prompt_file,
    tokenization_difference,
    validate_prompt,
)
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import tokenizer_json

PLAIN = Prompt(prefix=[Segment(field="prefix")], item=[Segment(item=True)])
EXAMPLE = """
labels = ["yes", "no"]

[[prefix]]
special = ["[CLS]"]
[[prefix]]
text = "query :"
[[prefix]]
field = "query"
max_tokens = 40
keep = "end"

[[item]]
item = true
max_tokens = 120
[[item]]
special = ["[SEP]"]
"""


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(tokenizer_json().decode()))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "prompt.toml"
    file.write_text(text)
    return file


def test_a_file_becomes_its_prompt_and_labels(tmp_path: Path) -> None:
    loaded = load_prompt_file(written(tmp_path, EXAMPLE))
    assert loaded.labels == ["yes", "no"]
    assert loaded.prompt == Prompt(
        prefix=[
            Segment(special=["[CLS]"]),
            Segment(text="query :"),
            Segment(field="query", max_tokens=40, keep="end"),
        ],
        item=[Segment(item=True, max_tokens=120), Segment(special=["[SEP]"])],
    )


def test_the_mark_of_utf_8_and_line_ends_of_windows_are_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "windows.toml").write_bytes(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode())
    assert load_prompt_file(tmp_path / "windows.toml") == load_prompt_file(written(tmp_path, EXAMPLE))


def test_labels_and_prefix_may_be_left_out(tmp_path: Path) -> None:
    loaded = load_prompt_file(written(tmp_path, "[[item]]\nitem = true\n"))
    assert loaded.labels is None
    assert loaded.prompt == Prompt(prefix=[], item=[Segment(item=True)])


ITEM = "[[item]]\nitem = true\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "prompt.toml: item needs exactly one segment with item = true, has 0"),
        (ITEM + "[[item\n", "prompt.toml: not a readable TOML file: .*line 3"),
        (
            ITEM + "[[suffix]]\ntext = 'a'",
            "prompt.toml: unknown key 'suffix', must be one of labels, prefix, item",
        ),
        (ITEM + ITEM, "item needs exactly one segment with item = true, has 2"),
        (ITEM + "[[item]]\nmax_token = 3", r"prompt.toml, line 3: item\[1\].max_token: unknown key"),
        (
            ITEM + "\n[[item]]\ntext = 'a'\nfield = 'b'",
            r"line 4: item\[1\]: needs exactly one .* text and field",
        ),
        (ITEM + "[[item]]\nkeep = 'end'", r"line 3: item\[1\]: needs exactly one .* has none"),
        (ITEM + "[[item]]\ntext = ''", r"line 3: item\[1\]: text is ''"),
        (ITEM + "[[item]]\nspecial = []", r"line 3: item\[1\]: special is \[\]"),
        (ITEM + "[[item]]\nspecial = ['']", r"line 3: item\[1\]: special is \[''\]"),
        (
            ITEM + "[[item]]\nspecial = 'a'",
            r"line 3: item\[1\].special: Input should be a valid list, got 'a'",
        ),
        (
            "[[prefix]]\nfield = 'b'\n" + ITEM + "[[item]]\nfield = 'b'",
            "prompt.toml: field 'b' is used twice",
        ),
        (
            ITEM + "[[prefix]]\nitem = true",
            r"line 3: prefix\[0\]: item = true belongs to the item's segments",
        ),
        (
            ITEM + "[[prefix]]\ntext = 'a'\nmax_tokens = 3",
            r"line 3: prefix\[0\]: max_tokens and keep go with",
        ),
        (
            ITEM + "[[prefix]]\nfield = 'a'\nmax_tokens = 0",
            r"line 3: prefix\[0\].max_tokens: .* greater than 0",
        ),
        (
            ITEM + "[[prefix]]\nfield = 'a'\nmax_tokens = '9'",
            r"prefix\[0\].max_tokens: .* valid integer, got '9'",
        ),
        (
            ITEM + "[[prefix]]\nfield = 'a'\nkeep = 'middle'",
            r"prefix\[0\].keep: .* 'start' or 'end', got 'middle'",
        ),
        (ITEM + "[[prefix]]\nfield = 'a'\n[[prefix]]\nfield = 'a'", "prompt.toml: field 'a' is used twice"),
        ("item = [{text = 'a', field = 'b'}]", r"prompt.toml: item\[0\]: needs exactly one"),
        ("item = 3", "prompt.toml: item: Input should be a valid list, got 3"),
        ("labels = []\n" + ITEM, r"labels is \[\], must be a list of words, at least one"),
        ("labels = 'yes'\n" + ITEM, "labels is 'yes', must be a list of words"),
        ("labels = ['yes', 1]\n" + ITEM, r"labels is \['yes', 1\], must be a list of words"),
        ("labels = ['yes', 'yes']\n" + ITEM, "a word is given twice"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_segment(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        load_prompt_file(written(tmp_path, text))


def test_a_missing_or_binary_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.toml: no such prompt file"):
        load_prompt_file(tmp_path / "absent.toml")
    (tmp_path / "prompt.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not a readable TOML file"):
        load_prompt_file(tmp_path / "prompt.toml")
    with pytest.raises(InvalidRequest, match="not a readable TOML file"):
        load_prompt_file(tmp_path)


# --- with the tokenizer ---------------------------------------------------------------------------------------------


def test_a_prompt_of_known_tokens_is_valid(tmp_path: Path, tokenizer: Tokenizer) -> None:
    validate_prompt(load_prompt_file(written(tmp_path, EXAMPLE)).prompt, tokenizer)
    validate_prompt(PLAIN, None)


def test_an_unknown_special_token_is_refused_with_near_matches(tokenizer: Tokenizer) -> None:
    prompt = Prompt(prefix=[Segment(special=["[CLS]", "[SEPP]"])], item=[Segment(item=True)])
    with pytest.raises(InvalidRequest, match=r"prefix\[0\]\.special: '\[SEPP\]' .* did you mean '\[SEP\]'"):
        validate_prompt(prompt, tokenizer)
    prompt = Prompt(prefix=[], item=[Segment(item=True), Segment(special=["<|im_start|>"])])
    with pytest.raises(InvalidRequest, match=r"item\[1\]\.special: '<\|im_start\|>' .* name a token"):
        validate_prompt(prompt, tokenizer)


def test_text_that_spells_a_special_token_is_refused(tokenizer: Tokenizer) -> None:
    prompt = Prompt(prefix=[Segment(text="[CLS]query :")], item=[Segment(item=True)])
    with pytest.raises(InvalidRequest, match=r"prefix\[0\]\.text: spells the special token '\[CLS\]'"):
        validate_prompt(prompt, tokenizer)


@pytest.mark.parametrize("literal", [Segment(text="red"), Segment(special=["[SEP]"])])
def test_literals_without_a_tokenizer_are_refused(literal: Segment) -> None:
    prompt = Prompt(prefix=[], item=[Segment(item=True), literal])
    with pytest.raises(InvalidRequest, match=r"item\[1\]: text and special need a tokenizer"):
        validate_prompt(prompt, None)


def test_the_rate_of_different_tokenization_is_counted(tokenizer: Tokenizer) -> None:
    requests: list[tuple[str | dict[str, str], str]] = [
        ("red", "green"),
        ("red", " green"),
        ({"prefix": "blue "}, "shoes"),
        ("blue", "boots"),
    ]
    # Joined, "redgreen" is a word of its own and "blueboots" none; after a space nothing changes.
    assert tokenization_difference(PLAIN, tokenizer, requests) == (4, 2)


def test_special_tokens_part_the_joined_text(tokenizer: Tokenizer) -> None:
    segments = [Segment(field="query"), Segment(special=["[SEP]"])]
    prompt = Prompt(prefix=segments, item=[Segment(item=True)])
    assert tokenization_difference(prompt, tokenizer, [("red", "green"), ("red", "[SEP]")]) == (2, 1)


def test_no_request_is_no_difference(tokenizer: Tokenizer) -> None:
    assert tokenization_difference(PLAIN, tokenizer, []) == (0, 0)
