"""The image's own steps, followed line by line without Docker: what it installs is enough to serve a bundle."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from rankport.runtime.bundle.bundle import Bundle
from support.effort import FACTOR

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "examples" / "deploy" / "Dockerfile"
OF_THE_DAEMON = {"FROM", "EXPOSE", "STOPSIGNAL", "USER", "CMD"}
"""Instructions without a step of their own here."""


def instructions() -> list[tuple[str, str]]:
    """Lists the instructions of the Dockerfile with what they say, in their order."""
    lines = (line.strip() for line in DOCKERFILE.read_text(encoding="utf-8").splitlines())
    words = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, rest) for name, _, rest in words]


@dataclass
class Image:
    """Folder in the place of the file system of an image, as its steps leave it."""

    folder: Path
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    entrypoint: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """Maps a path of the image."""
        return self.folder / PurePosixPath(self.workdir, path).relative_to("/")

    def follow(self, name: str, said: str) -> None:
        """Does what an instruction says."""
        if name == "WORKDIR":
            self.workdir = said
            self.place(".").mkdir(parents=True)
        elif name == "COPY" and not said.startswith(
            "--from="
        ):  # from an earlier stage: it lies there already
            *sources, target = shlex.split(said)
            for source in sources:
                self._copy(ROOT / source, target)
        elif name in ("ARG", "ENV"):
            for word in shlex.split(said):
                variable, _, value = word.partition("=")
                here = value.replace("/opt/", f"{self.folder}/opt/").replace("$PATH", os.environ["PATH"])
                self.environment[variable] = here
        elif name == "RUN" and not said.startswith("useradd"):  # which would be a user of this machine
            self.run(said.replace("/opt/", f"{self.folder}/opt/"))
        elif name == "ENTRYPOINT":
            self.entrypoint = json.loads(said)
        else:
            assert name in {*OF_THE_DAEMON, "COPY", "RUN"}, f"{name} is new: say here what it does"

    def run(self, command: str) -> None:
        """Runs a line of the shell in the folder of the image."""
        given: Mapping[str, str] = self.environment
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.place("."),
            env=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _copy(self, source: Path, target: str) -> None:
        place = self.place(target)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / source.name if target.endswith("/") else place)


def test_every_instruction_is_one_that_the_test_below_follows(tmp_path: Path) -> None:
    image = Image(tmp_path)
    for name, said in instructions():
        if name != "RUN":
            image.follow(name, said)
    assert (tmp_path / "source" / "runtime" / "rankport" / "runtime").is_dir()
    assert image.environment["PATH"].startswith(f"{tmp_path}/opt/rankport/bin:")


@pytest.mark.skipif(FACTOR == 1, reason="installs packages; under full effort")
def test_what_the_image_installs_serves_a_bundle(encoder_bundle: Bundle, tmp_path: Path) -> None:
    image = Image(tmp_path)
    for name, said in instructions():
        image.follow(name, said)
    program = shutil.which(image.entrypoint[0], path=image.environment["PATH"])
    assert program == f"{tmp_path}/opt/rankport/bin/rankport"
    command = [program, *image.entrypoint[1:], str(encoder_bundle.path), "--port", "0", "--json-log"]
    environment = {name: value for name, value in image.environment.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        events = []
        for line in server.stdout:
            events.append(json.loads(line)["event"])
            if events[-1] == "ready":
                server.send_signal(signal.SIGTERM)
    assert events[-1] == "stopped"
    assert server.returncode == 0
