"""Generates the Python stubs of protos/; `--check` exits 1 if the committed ones differ from fresh ones.

The generators are the oldest that the package's dependency floors allow, because stubs refuse libraries
older than what made them. They live in an environment of their own, made on the first run.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "build" / ".venv-protos"
# setuptools: grpcio-tools 1.66 imports pkg_resources, which newer releases deprecate and then drop.
REQUIREMENTS = ("grpcio-tools==1.66.2", "mypy-protobuf==3.6.0", "setuptools<80")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def make_environment() -> Path:
    """Returns the environment's Python; creates it if it is not there or was left half made."""
    python = VENV / "bin" / "python"
    complete = VENV / "complete"
    wanted = "\n".join(REQUIREMENTS)
    if not complete.is_file() or complete.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        complete.write_text(wanted)
    return python


def generate(out: Path) -> None:
    """Writes the stubs of every .proto file below `out`."""
    python = make_environment()
    protos = ROOT / "protos"
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    plugins = [
        f"--plugin=protoc-gen-{name}={python.parent / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
    ]
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [str(python), "-m", "grpc_tools.protoc", f"-I{protos}", *plugins, *outputs, *sources]
    subprocess.run(command, check=True, capture_output=True)


def stubs_below(folder: Path) -> dict[str, str]:
    """Reads every generated file, by relative path."""
    paths = (path for path in folder.rglob("*_pb2*") if path.name.endswith(SUFFIXES))
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def stale() -> list[str]:
    """Lists relative paths of stubs that are missing, extra or different."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = stubs_below(Path(folder))
    committed = stubs_below(ROOT / "protos")
    return sorted(path for path in fresh.keys() | committed.keys() if fresh.get(path) != committed.get(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        generate(ROOT / "protos")
        return 0
    paths = stale()
    for path in paths:
        print(f"stale: protos/{path}; run `make stubs` and commit the result", file=sys.stderr)
    return 1 if paths else 0


if __name__ == "__main__":
    sys.exit(main())
