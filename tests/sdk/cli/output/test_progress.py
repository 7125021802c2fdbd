"""Progress of an export: steps are named once, and warnings stay in sight."""

import io

import pytest
from rich.console import Console

from rankport.sdk.cli.output.progress import steps


@pytest.mark.parametrize("terminal", [False, True])
def test_a_warning_is_printed_and_stays(terminal: bool) -> None:
    out = io.StringIO()
    with steps(Console(file=out, force_terminal=terminal, color_system=None, width=200)) as on_step:
        on_step("loading the checkpoint")
        on_step("warning: prompt: prefix[0] text 'Query: ' ends in white space")
        on_step("warning: prompt: prefix[2] text 'Item: ' ends in white space")
        on_step("tracing the graphs")
    said = out.getvalue()
    assert said.count("warning: prompt: prefix[0] text 'Query: ' ends in white space\n") == 1
    assert said.count("warning: prompt: prefix[2] text 'Item: ' ends in white space\n") == 1
