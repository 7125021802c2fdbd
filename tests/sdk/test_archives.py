"""Wheel and sdist: what is in them, what their metadata say, and that each works where it is installed alone."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from rankport.protos.installed.packages import VERSION
from support.effort import FACTOR

ROOT = Path(__file__).parents[2]


def build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_string(archive.read(f"rankport-{VERSION}.dist-info/METADATA").decode())


def test_metadata_say_what_it_is(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("rankport", VERSION)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Programming Language :: Python :: 3.11" in metadata.get_all("Classifier", [])
    assert "reranker" in metadata["Keywords"]


def test_the_wheel_has_all_source_roots_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = ("protos", "runtime", "exporters", "sdk")
    assert {name.split("/")[1] for name in names if name.startswith("rankport/")} == set(roots)
    assert {f"rankport/{root}/py.typed" for root in roots} <= set(names)
    assert "rankport/protos/v1/rankport_pb2.py" in names
    assert "rankport/__init__.py" not in names
    # What `doctor --self-test` runs.
    assert "rankport/runtime/backends/trial/ranker/bundle/weights.bin" in names
    assert {name.split("/")[0] for name in names} == {"rankport", "optimum", f"rankport-{VERSION}.dist-info"}


@pytest.mark.skipif(FACTOR == 1, reason="takes a minute; under full effort")
def test_the_sdist_has_what_its_tests_need_and_its_wheel_is_the_same(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path / "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert {"tests/support/servers/serving.py", "tests/conftest.py", "Makefile", "docs/clients.md"} <= names
    assert not any("__pycache__" in name or name.startswith(("build/", ".venv")) for name in names)
    unpacked = tmp_path / f"rankport-{VERSION}"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(command, cwd=unpacked, check=True, capture_output=True)
    (again,) = (tmp_path / "again").iterdir()
    with zipfile.ZipFile(again) as from_sdist, zipfile.ZipFile(wheel) as direct:
        assert sorted(from_sdist.namelist()) == sorted(direct.namelist())
    tested = [sys.executable, "-m", "pytest", "-q", "tests/protos/test_errors.py", "tests/sdk/test_client.py"]
    subprocess.run(tested, cwd=unpacked, check=True, capture_output=True)


CLIENT_ONLY = """
from rankport.sdk import Client, MissingExtra, __version__
import rankport.sdk
assert __version__ == {version!r}
Client("localhost:1").close()
for name in ("Ranker", "ItemEncoder", "Server", "open_store", "export", "encode"):
    try:
        getattr(rankport.sdk, name)
    except MissingExtra as error:
        assert isinstance(error, ImportError)
        print(f"{{name}}: {{error}}")
"""


@pytest.mark.skipif(FACTOR == 1, reason="makes an environment; under full effort")
def test_a_client_only_install_names_the_extra_of_whatever_it_lacks(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    installed = run("-m", "pip", "install", "-q", str(wheel))
    assert installed.returncode == 0, installed.stderr
    told = run("-c", CLIENT_ONLY.format(version=VERSION))
    assert told.returncode == 0, told.stderr
    lines = dict(line.split(": ", 1) for line in told.stdout.splitlines())
    assert set(lines) == {"Ranker", "ItemEncoder", "Server", "open_store", "export", "encode"}
    for name, line in lines.items():
        assert line.startswith(f"rankport.sdk.{name} needs ")
        assert 'pip install "rankport[' in line
    assert run("-m", "rankport.sdk.cli", "--version").stdout == f"rankport {VERSION}\n"
    needed = run("-m", "rankport.sdk.cli", "inspect", "x")
    assert needed.returncode == 1
    told = 'the command line needs typer, which is not installed: pip install "rankport[runtime]"'
    assert needed.stderr == f"rankport: MissingExtra: {told}\n"
