"""Power that the device draws, and the energy of what ran meanwhile."""

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from benchmarks.gpu.reports.figures import Value

SAMPLES_A_SECOND = 10
Sample = tuple[float, float]
"""When, on the monotonic clock, and watts."""
Source = Callable[[], float]
"""Watts at this moment."""


@dataclass(slots=True)
class PowerMeter:
    """Samples of the power between `__enter__` and `__exit__`; none where there is no source.

    The driver averages over some 100 ms: of less than a second nothing is said.
    """

    source: Source | None
    samples: list[Sample] = field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def watts(self) -> float | None:
        """Mean over the time; None where it is not known."""
        joules = joules_of(self.samples, self.begun, self.ended)
        return None if joules is None else joules / (self.ended - self.begun)

    def figures(self, items: int) -> dict[str, Value]:
        """Mean power, and joules a thousand items where `items` were answered meanwhile."""
        watts = self.watts
        if watts is None:
            return {}
        joules = watts * (self.ended - self.begun)
        return {"power_w": watts} | ({"j_per_1000_items": joules / items * 1e3} if items else {})

    def __enter__(self) -> Self:
        self.begun = time.monotonic()
        if self.source is not None:
            self._thread = threading.Thread(target=self._sample, args=(self.source,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = time.monotonic()
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self, source: Source) -> None:
        while True:
            self.samples.append((time.monotonic(), source()))
            if self._stopped.wait(1 / SAMPLES_A_SECOND):
                return


def joules_of(samples: Sequence[Sample], begun: float, ended: float) -> float | None:
    """Energy between two moments by the samples that lie between: the first and the last hold to the ends.

    None with less than three of them or less than a second.
    """
    inside = [sample for sample in samples if begun <= sample[0] <= ended]
    if len(inside) < 3 or ended - begun < 1.0:
        return None
    inside = [(begun, inside[0][1]), *inside, (ended, inside[-1][1])]
    return sum(
        (later - earlier) * (low + high) / 2 for (earlier, low), (later, high) in itertools.pairwise(inside)
    )


@contextmanager
def power_source(device: str) -> Iterator[Source | None]:
    """The power of the first GPU: by NVML where its binding is installed, else from nvidia-smi; None on a CPU."""
    if device == "cpu":
        yield None
        return
    source = _nvml_source()
    if source is not None:
        yield source
        return
    with _smi_source() as told:
        yield told


@contextmanager
def metered(device: str) -> Iterator[PowerMeter]:
    """A meter of what runs within the block."""
    with power_source(device) as source, PowerMeter(source) as meter:
        yield meter


def _nvml_source() -> Source | None:
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetPowerUsage(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1e3


@contextmanager
def _smi_source() -> Iterator[Source | None]:
    """Lines of one nvidia-smi that goes on saying it: a process a sample would take longer than the sample's time."""
    command = ["nvidia-smi", "-i", "0", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen(
            [*command, f"--loop-ms={1000 // SAMPLES_A_SECOND}"], stdout=subprocess.PIPE, text=True
        )
    except OSError:
        yield None
        return
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        lines = process.stdout
        latest = [_watts(first)]
        if latest[0] is None:
            yield None
            return
        threading.Thread(target=_follow, args=(lines, latest), daemon=True).start()
        yield lambda: latest[0] or 0.0
    finally:
        process.terminate()
        process.wait(5)


def _follow(lines: Iterator[str], latest: list[float | None]) -> None:
    for line in lines:
        latest[0] = _watts(line) or latest[0]


def _watts(line: str) -> float | None:
    try:
        return float(line)
    except ValueError:
        return None
