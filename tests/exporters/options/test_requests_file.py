"""Files of requests: what is wrong with a line, or with the file, is named."""

from pathlib import Path

import pytest

from rankport.exporters.options.requests_file import read_judged, read_requests
from rankport.protos.errors import InvalidRequest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"prefix": "a", "items": ["b"]}', "exactly the keys"),
        ('{"prefix": "a", "items": ["b"], "gains": [1, 2]}', "1 item but 2 gains"),
        ('{"prefix": "a", "items": ["b"], "gains": ["x"]}', "numbers from 0 on"),
        ('{"prefix": "a", "items": ["b"], "gains": [-1]}', "numbers from 0 on"),
        ('{"prefix": 5, "items": ["b"], "gains": [1]}', "not 5"),
        ('{"prefix": "a", "items": [{"id": "b"}], "gains": [1]}', "must be {"),
        ('{"prefix": "a", "items": ["b"], "gains": [0]}', "positive gain"),
    ],
)
def test_a_judged_line_that_cannot_be_used_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(InvalidRequest, match=message):
        read_judged(file)


def test_a_judged_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    for name in ("latin.jsonl", "absent.jsonl"):
        with pytest.raises(InvalidRequest, match=name):
            read_judged(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"prefix": "a"}', r"line 1: needs the keys prefix and items .*: missing items"),
        ('{"prefix": "a", "items": ["b"], "id": 1}', r"needs the keys prefix and items .*: unknown id"),
        ('{"prefix": "a", "items": []}', "at least one item"),
        ('{"prefix": 3, "items": ["b"]}', "prefix must be"),
        ("", "holds no request"),
    ],
)
def test_a_calibration_line_that_cannot_be_used_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "calibration.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(InvalidRequest, match=message):
        read_requests(file)
