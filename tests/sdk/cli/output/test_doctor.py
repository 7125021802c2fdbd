"""Tables of `rankport doctor`: words as they are, whatever style they have."""

import io
from typing import get_args

import pytest

from rankport.runtime.self_test.self_test import Line, Verdict
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.doctor import print_self_test


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_a_verdict_is_a_word_in_its_cell(verdict: Verdict) -> None:
    out = io.StringIO()
    line = Line("onnxruntime cpu", verdict, "prefill and score", "1.32.0", "", 1e-6, 2e-4, "", 0.5)
    print_self_test(plain_console(file=out), (line,))
    row = next(row for row in out.getvalue().splitlines() if row.startswith("│ onnxruntime cpu"))
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "onnxruntime cpu",
        "1.32.0",
        "",
        "1.0e-06",
        "2.0e-04",
        verdict,
    ]
