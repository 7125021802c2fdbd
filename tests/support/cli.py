"""The command line in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def rankport(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One command, whatever comes of it."""
    command = [sys.executable, "-m", "rankport.sdk.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def built(bundle: Path, *arguments: object) -> list[dict[str, Any]]:
    """The plans that `rankport build` says it made or found."""
    done = rankport("build", bundle, *arguments, "--json", "-")
    assert done.returncode == 0, done.stderr
    plans: list[dict[str, Any]] = json.loads(done.stdout)["plans"]
    return plans
