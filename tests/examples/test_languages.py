"""Examples in other languages, run against a server: they say what the client of Python says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.effort import FACTOR
from support.servers.serving import serving

LANGUAGES = Path(__file__).parents[2] / "examples" / "languages"
PROTOS = Path(__file__).parents[2] / "protos"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node is not installed")
    if FACTOR == 1:
        pytest.skip("installs packages; under full effort")
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(LANGUAGES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([npm, "install", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RANKPORT_PROTOS": str(PROTOS)}
    command = ["node", str(folder / "score.mjs"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_node_prints_the_scores(node: Path) -> None:
    with serving() as served:
        done = run(node, served.address, "q", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["210.000000\tok\ta", "211.000000\tok\tb"]


def test_node_tells_the_error_of_the_server(node: Path) -> None:
    with serving() as served:
        served.ranker.refuse_with = ValueError("item 0 is wrong")
        unexpected = run(node, served.address, "q", "a")
        served.ranker.fail_with, served.ranker.refuse_with = None, None
    assert unexpected.returncode == 1
    assert unexpected.stderr.startswith("BackendError: unexpected error ")
