"""The stub of CUDA, asked from the process that it is loaded into: what was launched, copied, refused and left behind.

make build/stub_cuda/.made                                      # compiled, beside ONNX Runtime's GPU build
python -m benchmarks.gpu.without_gpu.stub COMMAND [ARGUMENT]... # a command that has it in the place of CUDA
"""

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "build" / "stub_cuda"
"""Where make leaves it."""
OUT_OF_MEMORY, ILLEGAL_ADDRESS, INVALIDATED = 2, 700, 901
"""Errors of CUDA for `failing`. After an illegal address the device answers nothing else."""
HANDLES_OF_CUDNN = "handles of cuDNN"
"""Name among what was launched."""
_NO_KERNELS = (
    "bytes, ",
    "copy, ",
    "entry point ",
    "recordings",
    "replays",
    "nodes replayed",
    HANDLES_OF_CUDNN,
)


def environment(
    inherited: Mapping[str, str] = os.environ, *, cudnn: bool = True, fail: str = ""
) -> dict[str, str]:
    """Makes the environment of a process in which CUDA is the stub, without `cudnn` if not asked for.

    `fail` says what fails there from the start: `CALL:ERROR:AFTER`, as of `failing`, several joined by commas.
    """
    packages = [str(FOLDER / "packages"), str(Path(__file__).parent / "stub_packages")]
    libraries = [str(FOLDER / name) for name in ("lib", "cudnn")]
    paths = _others(inherited.get("PYTHONPATH"), packages)
    found = _others(inherited.get("LD_LIBRARY_PATH"), libraries)
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join([*packages, *paths]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries[: 1 + cudnn], *found]),
        "STUB_CUDA_FAIL": fail,
    }


def enter(module: str) -> None:
    """Begins the process anew as `python -m module` with the same arguments, with the stub; does nothing within it.

    Exits where make has not left it.
    """
    if not is_loaded():
        _replace_process([sys.executable, "-m", module, *sys.argv[1:]])


def is_loaded() -> bool:
    """Says whether this process has the stub in the place of CUDA."""
    return str(FOLDER / "lib") in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)


def take_launches() -> Counter[str]:
    """Counts kernels by name, copies and their bytes by direction, recordings and replays since the last call."""
    return _counts("stub_take_launches")


def kernels(launches: Counter[str]) -> Counter[str]:
    """Kernels and products among what was launched."""
    return Counter({name: count for name, count in launches.items() if not name.startswith(_NO_KERNELS)})


def take_faults() -> tuple[str, ...]:
    """Lists what CUDA would have refused since the last call: copies outside of memory, waits in a recording."""
    return tuple(_taken("stub_take_faults"))


def alive() -> Counter[str]:
    """Counts what was allocated or made, and not given back: bytes by their place, streams, events, recordings."""
    return _counts("stub_alive")


@contextmanager
def failing(call: str, error: int, *, after: int = 0) -> Iterator[None]:
    """Has a call fail once `after` of it went well, and each later; `cudaLaunchKernel` is launches of all forms.

    An error that loses the device is told by the calls that follow, all of them, until the end of the block.
    """
    _library().stub_fail(call.encode(), error, ctypes.c_long(after))
    try:
        yield
    finally:
        _library().stub_recover()


def _counts(name: str) -> Counter[str]:
    lines = (line.split("\t", 1) for line in _taken(name))
    return Counter({name: int(count) for count, name in lines})


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
    return ctypes.CDLL("libcudart.so.13")


def _others(joined: str | None, known: list[str]) -> list[str]:
    """Splits a variable of paths and leaves out those that are known."""
    return [path for path in (joined or "").split(os.pathsep) if path and path not in known]


def _replace_process(command: list[str]) -> None:
    if not (FOLDER / ".made").exists():
        sys.exit("there is no stub of CUDA yet: make build/stub_cuda/.made")
    os.execvpe(command[0], command, environment())


if __name__ == "__main__":
    _replace_process(sys.argv[1:])
