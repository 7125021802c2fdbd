"""The command line: in this process, where its results are the point, or in one of its own."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

from rankport.sdk.cli import main


def rankport(*arguments: object) -> CompletedProcess[str]:
    """Runs one command in this process, which has loaded torch already; whatever comes of it."""
    return in_process(main, "rankport", *arguments)


def in_process(entry: Callable[[], object], *words: object) -> CompletedProcess[str]:
    """Runs a command line of any program by its entry point."""
    command = [str(word) for word in words]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    terminated = signal.getsignal(signal.SIGTERM)  # the command sets one for a process of its own
    try:
        with patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
            entry()
        status: str | int | None = 0
    except SystemExit as exit_:
        status = exit_.code
    finally:
        signal.signal(signal.SIGTERM, terminated)
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return CompletedProcess(
        command, status if isinstance(status, int) else int(status is not None), said, complained
    )


def rankport_process(*arguments: object) -> CompletedProcess[str]:
    """Runs one command in a process of its own."""
    command = [sys.executable, "-m", "rankport.sdk.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def built(bundle: Path, *arguments: object, process: bool = False) -> list[dict[str, Any]]:
    """Runs `rankport build` and gives the plans that it says it made or found."""
    run = rankport_process if process else rankport
    done = run("build", bundle, *arguments, "--json", "-")
    assert done.returncode == 0, done.stderr
    plans: list[dict[str, Any]] = json.loads(done.stdout)["plans"]
    return plans
