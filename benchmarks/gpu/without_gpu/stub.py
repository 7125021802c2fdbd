"""The stub of CUDA, asked from the process that it is loaded into: what was launched and copied, and what it refused.

`make build/stub_cuda/.made` compiles it beside ONNX Runtime's GPU build; `environment` loads both in a new process.
"""

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "build" / "stub_cuda"
"""Where make leaves it."""
_NO_KERNELS = ("bytes, ", "copy, ", "entry point ", "recordings", "replays", "nodes replayed")


def environment(inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Makes the environment of a process in which CUDA is the stub."""
    packages = (FOLDER / "packages", Path(__file__).parent / "stub_packages")
    paths = [*map(str, packages), *filter(None, [inherited.get("PYTHONPATH")])]
    libraries = [str(FOLDER / "lib"), *filter(None, [inherited.get("LD_LIBRARY_PATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths), "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def enter(module: str) -> None:
    """Begins the process anew as `python -m module` with the same arguments, with the stub; does nothing within it.

    Exits where make has not left it.
    """
    if is_loaded():
        return
    if not (FOLDER / ".made").exists():
        sys.exit("there is no stub of CUDA yet: make build/stub_cuda/.made")
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment())


def is_loaded() -> bool:
    """Says whether this process has the stub in the place of CUDA."""
    return str(FOLDER / "lib") in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)


def take_launches() -> Counter[str]:
    """Counts kernels by name, copies and their bytes by direction, recordings and replays since the last call."""
    lines = (line.split("\t", 1) for line in _taken("stub_take_launches"))
    return Counter({name: int(count) for count, name in lines})


def kernels(launches: Counter[str]) -> Counter[str]:
    """Kernels and products among what was launched."""
    return Counter({name: count for name, count in launches.items() if not name.startswith(_NO_KERNELS)})


def take_faults() -> tuple[str, ...]:
    """Lists what CUDA would have refused since the last call: copies outside of memory, waits in a recording."""
    return tuple(_taken("stub_take_faults"))


def peak_bytes() -> int:
    """Returns the most device memory that was allocated at once since the last call."""
    return int(_library().stub_peak_bytes())


def _taken(name: str) -> list[str]:
    take = getattr(_library(), name)
    take.restype = ctypes.c_void_p
    text = take()
    try:
        return ctypes.string_at(text).decode().splitlines()
    finally:
        _library().stub_free(ctypes.c_void_p(text))


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libcudart.so.13")
    library.stub_peak_bytes.restype = ctypes.c_size_t
    return library
