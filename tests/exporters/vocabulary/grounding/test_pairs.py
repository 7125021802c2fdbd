"""Files of pairs and of new tokens, as editors leave them."""

from pathlib import Path

import pytest

from rankport.exporters.vocabulary.grounding.pairs import Pair, read_pairs, read_tokens
from rankport.protos.errors import InvalidRequest

MARK = b"\xef\xbb\xbf"


def test_the_mark_of_utf_8_and_line_ends_of_windows_are_no_part_of_a_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(MARK + b"<a_1>\r\n<b_2>\r\n")
    assert read_tokens(tmp_path / "tokens") == ["<a_1>", "<b_2>"]
    (tmp_path / "tokens").write_bytes(b"<a_1>\n<b_2>")
    assert read_tokens(tmp_path / "tokens") == ["<a_1>", "<b_2>"]


def test_a_pair_is_a_line_whatever_its_text_has(tmp_path: Path) -> None:
    line = '{"text": "a\u2028b", "tokens": ["<a_1>"]}'
    (tmp_path / "pairs").write_bytes(MARK + f"{line}\r\n\r\n{line}\r\n".encode())
    assert read_pairs(tmp_path / "pairs") == [Pair("a\u2028b", ("<a_1>",))] * 2


@pytest.mark.parametrize(
    "content", [b"", b"<a_1>", b"<a_1>\n\n<b_2>\n", b" <a_1>\n<b_2>\n", b"<a_1>\n<a_1>\n"]
)
def test_what_are_no_new_tokens_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(InvalidRequest, match="--add-tokens"):
        read_tokens(tmp_path / "tokens")
