"""Every knob of an engine and its backend, with the one place for its default."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rankport.protos.errors import InvalidRequest

Prepacking = Literal["throughput", "footprint"]
Device = Literal["cpu", "cuda", "tensorrt"]


_LONGEST_S = 7 * 86_400.0
_LEAST = {
    "max_batch_tokens": 1,
    "max_prefill_tokens": 1,
    "max_padding_ratio": 1.0,
    "prefix_cache_bytes": 0,
    "max_active_requests": 1,
    "max_queued_requests": 1,
    "max_queued_tokens": 1,
    "threads": 0,
    "device_tokens_bytes": 0,
    "device_tokens_refresh_s": 0.01,
}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine batches, caches and queues, and how its backend loads weights.

    Raises `InvalidRequest` for a value out of range.
    """

    # Tokens of items in one pass. On a CPU a matrix product is at full speed from a few hundred rows on; more
    # only adds activation memory and makes deadlines, which are checked between passes, coarser.
    max_batch_tokens: int = 2048
    # Tokens of prefixes computed in one pass: longer prefixes go in chunks, so that others wait little.
    max_prefill_tokens: int = 512
    # Largest padded layout of a pass, as a multiple of its real tokens.
    max_padding_ratio: float = 1.5
    # KV kept across requests. 0 keeps none.
    prefix_cache_bytes: int = 256 * 2**20
    # Requests whose passes may interleave; each pins the KV of its prefix until it is answered.
    max_active_requests: int = 32
    # Requests that may wait for their first pass, before `Overloaded`.
    max_queued_requests: int = 256
    # Tokens those may have together. A larger request is taken when no other waits.
    max_queued_tokens: int = 1_000_000
    # Compute threads of the backend; 0 is one per physical core.
    threads: int = 0
    # "throughput" packs weights for the CPU's matrix product, at the cost of a private copy of them;
    # "footprint" leaves them in the page cache, shared by graphs and processes. Weights whose inputs are rounded in
    # blocks (`--quantize int4`) are packed in any case: their kernel computes something else without.
    prepacking: Prepacking = "throughput"
    # Numbers of the GPUs that each get a replica of the model: an engine with its own thread, weights and prefix cache.
    device_ids: tuple[int, ...] = (0,)
    # Embedding tokens of the store kept in GPU memory, in fp32, from its first key on; 0 keeps none.
    device_tokens_bytes: int = 0
    # Seconds from one look at the store for changes of these to the next.
    device_tokens_refresh_s: float = 5.0
    # Where passes are computed: "cuda" takes graphs exported for it, and onnxruntime-gpu with cuda-python; "tensorrt"
    # takes plans that `rankport build` has made for this GPU.
    device: Device = "cpu"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise InvalidRequest(f"{name} is {value}: it must be at least {least}")
        if self.prepacking not in ("throughput", "footprint"):
            raise InvalidRequest(f"prepacking is {self.prepacking!r}: it must be 'throughput' or 'footprint'")
        if self.device not in get_args(Device):
            raise InvalidRequest(
                f"device is {self.device!r}: it must be one of {', '.join(get_args(Device))}"
            )
        self._check_gpus()

    def _check_gpus(self) -> None:
        if self.device_tokens_refresh_s > _LONGEST_S:
            raise InvalidRequest(
                f"device_tokens_refresh_s is {self.device_tokens_refresh_s}: it must be at most a week, "
                f"{_LONGEST_S:.0f}"
            )
        ids = self.device_ids
        if not ids or len(set(ids)) < len(ids) or min(ids) < 0:
            raise InvalidRequest(f"device_ids is {list(ids)}: give numbers of GPUs, each once")
        if self.device == "cpu" and ids != (0,):
            raise InvalidRequest(f"device_ids is {list(ids)}: a CPU has one engine, its numbers are of GPUs")
        if self.device_tokens_bytes and self.device != "cuda":
            raise InvalidRequest(
                f"device_tokens_bytes is {self.device_tokens_bytes} with device {self.device!r}: tokens stay on a "
                "device with 'cuda' only; a CPU reads them from the store's memory map"
            )


DEFAULTS = EngineConfig()
"""The engine as it is without a word from the user."""

CUDA_DEFAULTS = EngineConfig(
    device="cuda",
    # A GPU is at full speed from some ten thousand tokens on.
    max_batch_tokens=16_384,
    # The mask of a chunk grows with its square.
    max_prefill_tokens=4_096,
    # Padding is computed: see `rectangle`.
    max_padding_ratio=1.2,
    prefix_cache_bytes=8 * 2**30,
    max_active_requests=128,
    max_queued_requests=1024,
    max_queued_tokens=8_000_000,
)
"""The same of a GPU."""

_OF_DEVICE: dict[Device, EngineConfig] = {
    "cpu": DEFAULTS,
    "cuda": CUDA_DEFAULTS,
    # Passes as large as those that `rankport build` makes plans for unless told otherwise.
    "tensorrt": replace(
        CUDA_DEFAULTS,
        device="tensorrt",
        max_batch_tokens=DEFAULTS.max_batch_tokens,
        max_prefill_tokens=DEFAULTS.max_prefill_tokens,
        max_padding_ratio=DEFAULTS.max_padding_ratio,
    ),
}


def engine_config(device: Device = "cpu", **given: object) -> EngineConfig:
    """The defaults of a device, but for what is `given` and not None. Raises `InvalidRequest` as `EngineConfig`."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(_OF_DEVICE[device], **chosen)  # type: ignore[arg-type]
