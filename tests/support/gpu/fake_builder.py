"""A stand-in for TensorRT's builder: it takes every graph, builds nothing, and writes down what it was asked."""

import enum
import time
from collections.abc import Callable
from threading import Event
from types import SimpleNamespace
from typing import Any

from rankport.runtime.backends.tensorrt.module import TensorRt

PLAN = b"a plan"
LEARNED = b"timings of this build"


class _Flag(enum.Enum):
    TF32 = enum.auto()
    STRIP_PLAN = enum.auto()
    REFIT_IDENTICAL = enum.auto()


class FakeBuilderApi:
    """The module, with what its last configuration was given.

    `fails`: it builds nothing. `until_stopped`: called by a build, which then goes on until it is stopped: `ended`.
    """

    BuilderFlag = _Flag
    IProgressMonitor = object
    ComputeCapability = SimpleNamespace(__members__=["CURRENT", "SM80", "SM89"])
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="ampere+")
    ILogger = type(
        "ILogger", (), {"Severity": SimpleNamespace(ERROR=1, INTERNAL_ERROR=0), "__init__": lambda self: None}
    )

    def __init__(self, takes_cache: Callable[[bytes], bool] = lambda content: True) -> None:
        self.takes_cache = takes_cache
        self.fails = False
        self.until_stopped: Callable[[], object] | None = None
        self.ended = Event()
        self.config = FakeConfig(self)

    @property
    def module(self) -> TensorRt:
        """As loaded: TensorRT, which has timing caches and hardware-compatible plans."""
        return TensorRt("tensorrt", "11.4", self)

    def Builder(self, log: object) -> Any:  # noqa: N802
        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(num_inputs=0),
            create_builder_config=self._new_config,
            create_optimization_profile=lambda: None,
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: object, log: object) -> Any:  # noqa: N802
        return SimpleNamespace(
            parse_from_file=lambda file: True, supports_model_v2=lambda content, file: True
        )

    def _build(self, network: object, config: "FakeConfig") -> bytes | None:
        if self.until_stopped is not None:
            self.until_stopped()
            while config.progress_monitor.step_complete("a phase", 0):
                time.sleep(0.01)
            self.ended.set()
        return None if self.fails or self.ended.is_set() else PLAN

    def _new_config(self) -> "FakeConfig":
        self.config = FakeConfig(self)
        return self.config


class FakeConfig:
    """Flags, levels and the timing cache of one build; TF32 is on, as it is there."""

    def __init__(self, api: FakeBuilderApi) -> None:
        self._api = api
        self.flags = {_Flag.TF32}
        self.hardware_compatibility_level = ""
        self.builder_optimization_level = 3
        self.cache: bytes | None = None
        self.progress_monitor: Any = None

    def set_flag(self, flag: _Flag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: _Flag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: object) -> int:
        return 0

    def create_timing_cache(self, content: bytes) -> bytes | None:
        return None if content == b"junk" else content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if self._api.takes_cache(cache):
            self.cache = cache
        return self.cache == cache

    def get_timing_cache(self) -> Any:
        assert self.cache is not None
        return SimpleNamespace(serialize=lambda: self.cache + LEARNED)
