"""The trained ranker of a session on a GPU: a part whose proof fails does not end well, and keeps its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import trained


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_proof_that_fails_ends_the_part_with_its_figures(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        verdict = {"passed": not code, "failures": ["NDCG@1"] * code, "parity": {"modes": []}, "quality": {}}
        if code < 2:  # as where the command line is refused
            Path(command[command.index("--json") + 1]).write_text(json.dumps(verdict))
        return subprocess.CompletedProcess(command, code, "", "")

    monkeypatch.setattr(trained, "restore", lambda _, to: to)
    monkeypatch.setattr(subprocess, "run", verify)
    out = tmp_path / "figures.json"
    monkeypatch.setattr(
        sys, "argv", ["trained", "--form", "int8", "--work", str(tmp_path), "--out", str(out)]
    )
    if code:
        with pytest.raises(SystemExit, match=f"^int8: not proven, exit code {code} of verify$"):
            trained.main()
    else:
        trained.main()
    figures = json.loads(out.read_text())
    assert figures["exit_code"] == code
    assert figures.get("passed") == (None if code == 2 else not code)
