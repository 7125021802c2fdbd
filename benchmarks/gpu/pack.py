"""Puts into .gpu/ what a GPU machine without a network lacks; `setup.sh` lays it out there in seconds.

    python -m benchmarks.gpu.pack [--skeletons build/gpu] [--runtime FOLDER ...]

FOLDER is a slice of packed GPU libraries (ONNX Runtime's, say) with its own unpack.py. Slices that do not fit beside
the rest go into .gpu-1/, .gpu-2/, ..., each for a call of its own ahead of the session. Each skeleton is compressed;
wheels are of the GPU machine's Python. Says what each call weighs, with the tracked files that travel in all of them.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

PYTHON = "3.12"
WHEELS = (
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "annotated-types==0.7.0",
    "typing-inspection==0.4.5",
    "typing-extensions==4.16.0",
    "lmdb==3.0.0",
    "onnx-ir==1.1.0",
    # The oldest that the project supports: newer ones refuse an older grpcio or protobuf.
    "grpcio-health-checking==1.66.2",
    "grpcio-reflection==1.66.2",
    "googleapis-common-protos==1.66.0",
)
INSTALLED = frozenset(
    [
        *(
            "cuda-bindings",
            "nvidia-cublas",
            "nvidia-cuda-runtime",
            "nvidia-cudnn-cu13",
            "nvidia-cufft",
            "nvidia-curand",
        ),
        *("grpcio", "matplotlib", "ml-dtypes", "numpy", "onnx", "onnxscript", "peft", "prometheus-client"),
        *("protobuf", "rich", "safetensors", "tokenizers", "torch", "transformers", "typer"),
    ]
)
"""Packages of the GPU machine's own Python that the session imports, ONNX Runtime's GPU build apart."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MAX_BYTES = 62 * 2**20


def main() -> None:
    """Fills the folder anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skeletons", type=Path, default=Path("build/gpu"))
    parser.add_argument("--runtime", type=Path, nargs="*", default=[])
    parser.add_argument("--to", type=Path, default=Path(".gpu"))
    given = parser.parse_args()
    if not any(given.skeletons.glob("*.skeleton")):
        parser.error(f"no skeletons in {given.skeletons}: make them with python -m benchmarks.gpu.bundles")
    for folder in given.runtime:
        if not (folder / "unpack.py").is_file():
            parser.error(f"{folder} is no slice of packed libraries: it has no unpack.py")
    given.to.mkdir(exist_ok=True)
    for name in ("skeletons", "runtime"):
        shutil.rmtree(given.to / name, ignore_errors=True)
    for folder in calls_ahead(given.to):
        shutil.rmtree(folder)
    download(given.to / "wheels")
    pack_skeletons(given.skeletons, given.to / "skeletons")
    room = MAX_BYTES - tracked()
    slices = {folder: size(folder) for folder in given.runtime}
    session, *ahead = calls_of(slices, room - size(given.to), room)
    for number, call in enumerate([*ahead, session], 1):
        to = given.to if call is session else given.to.with_name(f"{given.to.name}-{number}")
        for folder in call:
            shutil.copytree(folder, to / "runtime" / folder.name)
        parts = ", ".join(f"{part.name} {size(part) / 2**20:.1f}" for part in sorted(to.iterdir()))
        together = (tracked() + size(to)) / 2**20
        print(f"{to}: {parts}, tracked files {tracked() / 2**20:.1f}, together {together:.1f} MiB")


def calls_ahead(to: Path) -> list[Path]:
    """Finds the folders of an earlier packing beside `to`: those of its name and a number."""
    numbered = re.compile(rf"{re.escape(to.name)}-[1-9]\d*")
    return sorted(path for path in to.absolute().parent.iterdir() if numbered.fullmatch(path.name))


def calls_of(slices: Mapping[Path, int], session: int, ahead: int) -> list[list[Path]]:
    """Shares slices of so many bytes out to calls: the session's, with less room, and as few ahead of it as may be.

    Exits where one fits into no call.
    """
    calls, left = [list[Path]()], [session]
    for folder, nbytes in sorted(slices.items(), key=lambda one: -one[1]):
        place = next((number for number, room in enumerate(left) if nbytes <= room), None)
        if place is None:
            if nbytes > ahead or session < 0:
                sys.exit(
                    f"{folder}: {nbytes} bytes are more than the {ahead} that a call has room for: cut it smaller"
                )
            place = len(calls)
            calls.append([])
            left.append(ahead)
        calls[place].append(folder)
        left[place] -= nbytes
    return calls


def download(folder: Path) -> None:
    """Unless they are there: delete the folder to have them anew."""
    if folder.exists() and len(list(folder.glob("*.whl"))) == len(WHEELS):
        return
    shutil.rmtree(folder, ignore_errors=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--python-version", PYTHON, "--implementation", "cp", *platforms, "-d", str(folder), *WHEELS),
        ],
        check=True,
    )


def pack_skeletons(source: Path, to: Path) -> None:
    """One compressed archive each."""
    to.mkdir(parents=True)
    for skeleton in sorted(source.glob("*.skeleton")):
        with tarfile.open(to / f"{skeleton.name}.tar.xz", "w:xz") as archive:
            archive.add(skeleton, skeleton.name)


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tracked() -> int:
    """Bytes of the files that git knows, as they lie here."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout
    return sum(
        Path(name).stat().st_size for name in listed.decode().split("\0") if name and Path(name).is_file()
    )


if __name__ == "__main__":
    main()
