"""Examples in other languages, run against a server: they say what the client of Python says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.counts import Outcome
from support.effort import FACTOR
from support.servers.serving import serving

LANGUAGES = Path(__file__).parents[2] / "examples" / "languages"
PROTOS = Path(__file__).parents[2] / "protos"
GO_PACKAGES = [
    Path("/usr/share/gocode/src/google.golang.org", name) for name in ("genproto", "grpc", "protobuf")
]


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


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of Go, built; its packages are compiled once a machine."""
    needed = [
        name for name in ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc") if not shutil.which(name)
    ]
    needed += [str(path) for path in GO_PACKAGES if not path.is_dir()]
    if needed:
        pytest.skip(f"not installed: {', '.join(needed)}")
    folder = tmp_path_factory.mktemp("go")
    command = [str(LANGUAGES / "go" / "build.sh"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "score"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RANKPORT_PROTOS": str(PROTOS)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_node_prints_the_scores(node: Path) -> None:
    with serving() as served:
        done = run("node", str(node / "score.mjs"), served.address, "q", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["210.000000\tok\ta", "211.000000\tok\tb"]


def test_node_tells_the_error_of_the_server(node: Path) -> None:
    with serving() as served:
        served.ranker.refuse_with = ValueError("item 0 is wrong")
        unexpected = run("node", str(node / "score.mjs"), served.address, "q", "a")
    assert unexpected.returncode == 1
    assert unexpected.stderr.startswith("BackendError: unexpected error ")


def test_node_comes_again_when_an_overloaded_server_says(node: Path) -> None:
    with serving() as served:
        served.ranker.overloads_left = 2
        done = run("node", str(node / "score.mjs"), served.address, "q", "a")
        counts = served.server.counts.snapshot()
    assert (done.returncode, done.stdout) == (0, "210.000000\tok\ta\n")
    assert (counts[Outcome.REJECTED], counts[Outcome.ANSWERED]) == (2, 1)


def test_node_gives_a_call_its_deadline(node: Path) -> None:
    with serving() as served:
        run("node", str(node / "score.mjs"), served.address, "q", "a")
        (timeout_s,) = served.ranker.worker.timeouts
    assert timeout_s is not None
    assert 4 < timeout_s <= 5


@pytest.mark.parametrize("given", [(), ("localhost:8500",), ("localhost:8500", "q")])
def test_node_says_what_it_takes(node: Path, given: tuple[str, ...]) -> None:
    done = run("node", str(node / "score.mjs"), *given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "usage: node score.mjs HOST:PORT PREFIX ITEM...\n"


def test_go_prints_the_scores(go: Path) -> None:
    with serving() as served:
        done = run(str(go), served.address, "q", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["210.000000\tok\ta", "211.000000\tok\tb"]


def test_go_comes_again_when_an_overloaded_server_says(go: Path) -> None:
    with serving() as served:
        served.ranker.overloads_left = 2
        done = run(str(go), served.address, "q", "a")
        counts = served.server.counts.snapshot()
    assert (done.returncode, done.stdout) == (0, "210.000000\tok\ta\n")
    assert (counts[Outcome.REJECTED], counts[Outcome.ANSWERED]) == (2, 1)


def test_go_tells_the_error_of_the_server_by_its_class(go: Path) -> None:
    with serving() as served:
        served.ranker.refuse_with = InvalidRequest("item 0 is wrong")
        refused = run(str(go), served.address, "q", "a")
    assert (refused.returncode, refused.stderr) == (1, "InvalidRequest: item 0 is wrong\n")


def test_go_gives_a_call_its_deadline(go: Path) -> None:
    with serving() as served:
        run(str(go), served.address, "q", "a")
        (timeout_s,) = served.ranker.worker.timeouts
    assert timeout_s is not None
    assert 4 < timeout_s <= 5
