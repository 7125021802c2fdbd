"""Knobs of an engine and its backend, with the one place for their defaults and help texts."""

import logging
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag, in_range
from rankport.runtime.options import check_partners, check_ranges

Prepacking = Literal["throughput", "footprint"]
Device = Literal["cpu", "cuda", "tensorrt"]

_log = logging.getLogger(__name__)
_LONGEST_S = 7 * 86_400.0  # a week


def check_device(device: Device) -> None:
    """Raises `InvalidRequest` for a device that there is not."""
    if device not in get_args(Device):
        raise InvalidRequest(f"device is {device!r}: it must be one of {', '.join(get_args(Device))}")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Knobs of how an engine batches, caches and queues, and how its backend loads weights.

    Raises `InvalidRequest` for a value out of range.
    """

    device: Device = field(
        default="cpu",
        metadata=flag(
            "Where passes are computed; cuda takes bundles exported with --target onnx-cuda, tensorrt the plans of "
            "`rankport build`."
        ),
    )
    device_ids: tuple[int, ...] = field(
        default=(0,),
        metadata=flag(
            "GPUs that each get a replica of every model: numbers from 0 on, 0,1, or all.",
            metavar="NUMBERS",
            form="gpus",
        ),
    )
    allow_unsupported_gpu: bool = field(
        default=False,
        metadata=flag(
            "With --device tensorrt: try plans also on a GPU that TensorRT does not list, once their numbers are found "
            "to be ONNX Runtime's.",
            name="--allow-unsupported-gpu",
        ),
    )
    # On a CPU a matrix product is at full speed from a few hundred rows on; more only adds activation memory and
    # makes deadlines, which are checked between passes, coarser.
    max_batch_tokens: int = field(default=2048, metadata=flag("Tokens of items in one pass.", least=1))
    # Whole texts have nothing to read again: fewer keep a layer's activations in the processor's cache.
    max_text_batch_tokens: int = field(
        default=768,
        metadata=flag("Tokens of whole texts in one pass, at most --max-batch-tokens.", least=1),
    )
    background_share: float = field(
        default=0.1,
        metadata=flag(
            "Part of the tokens that requests in the background have while interactive ones are there, in every other "
            "pass at most; 0: none.",
            least=0.0,
            most=0.5,
        ),
    )
    # So that whoever comes next waits for a short pass; longer ones compute little faster.
    max_bulk_tokens: int = field(
        default=512,
        metadata=flag(
            "Tokens of one pass that requests of more than these have together while smaller ones come; without, as "
            "many as a pass has.",
            least=1,
        ),
    )
    # A pass ends for all of its requests at once: those that fill a processor are answered sooner one by one.
    max_shared_pass_s: float = field(
        default=0.05,
        metadata=flag(
            "Seconds of a pass over items or texts on a CPU, by the pace of late, from which on no other request joins "
            "it, once it has 256 tokens.",
            least=0.0,
        ),
    )
    # Longer prefixes go in chunks, so that others wait little.
    max_prefill_tokens: int = field(default=512, metadata=flag("Tokens of prefixes in one pass.", least=1))
    # Largest padded layout of a pass, as a multiple of its real tokens.
    max_padding_ratio: float = field(default=1.5, metadata=in_range(least=1.0))
    # Each pins the KV of its prefix until it is answered.
    max_active_requests: int = field(default=32, metadata=flag("Requests whose passes interleave.", least=1))
    # More are `Overloaded`.
    max_queued_requests: int = field(
        default=256, metadata=flag("Requests that wait for their first pass.", least=1)
    )
    # By the pace of late. None: for as long as each has time; a server sets it.
    max_queue_s: float | None = field(default=None, metadata=in_range(least=0.0))
    # A larger request is taken when no other waits.
    max_queued_tokens: int = field(
        default=1_000_000, metadata=flag("Tokens that those have together.", least=1)
    )
    # More are `LimitExceeded`, once texts are tokenized. None: as many as there are; a server sets it.
    max_request_tokens: int | None = field(default=None, metadata=in_range(least=1))
    prefix_cache_bytes: int = field(
        default=256 * 2**20,
        metadata=flag(
            "Prefix KV kept across requests, of each device, in bytes or as 4GiB; 0 keeps none.",
            least=0,
            metavar="SIZE",
            form="size",
        ),
    )
    device_tokens_bytes: int = field(
        default=0,
        metadata=flag(
            "Embedding tokens of --store that each ranker of them keeps on its GPUs, in bytes or as 4GiB (4 bytes a "
            "value, 2 in fp16), from the first key on; requests that name their keys then send none. Needs --device "
            "cuda.",
            name="--device-tokens",
            least=0,
            metavar="SIZE",
            form="size",
        ),
    )
    device_tokens_refresh_s: float = field(
        default=5.0,
        metadata=flag(
            "Seconds from one look at --store for changes of these to the next.",
            least=0.01,
            most=_LONGEST_S,
            needs="device_tokens_bytes",
        ),
    )
    device_rows_bytes: int = field(
        default=0,
        metadata=flag(
            "Rows of id tables that each ranker of sets keeps on its GPUs, of those asked for last, in bytes or as "
            "4GiB; a request sends the others. At least those of a request are there. Needs --device cuda.",
            name="--device-rows",
            least=0,
            metavar="SIZE",
            form="size",
        ),
    )
    host_tokens_bytes: int = field(
        default=64 * 2**20,
        metadata=flag(
            "Embedding tokens of --store that each ranker of them keeps in its own memory, of the keys asked for last, "
            "in bytes or as 4GiB; a write to the store empties it; 0 reads every key from the store.",
            name="--host-tokens",
            least=0,
            metavar="SIZE",
            form="size",
        ),
    )
    trie_root: str | None = field(
        default=None,
        metadata=flag(
            "Folder of tries, `rankport trie build`, that searches find by name; one may be replaced at any time.",
            metavar="FOLDER",
        ),
    )
    threads: int = field(
        default=0,
        metadata=flag("Compute threads a model; 0: one per core that it may use.", least=0, most=1024),
    )
    # Two passes of half the threads each have no barrier in common: what takes a core from one leaves the other alone.
    instances: int = field(
        default=1,
        metadata=flag(
            "Passes of each model that a CPU computes beside each other; they share --threads and the weights. Of "
            "a generator all but one read prompts; an encoder-decoder that writes has one.",
            least=1,
            most=64,
        ),
    )
    # "throughput" packs weights for the CPU's matrix product, at the cost of a private copy of them: in fp32 those in 8
    # bits whose inputs are not rounded to integers. "footprint" leaves them in the page cache, shared by graphs and
    # processes, and dequantizes those in each pass. Weights whose inputs are rounded in blocks (`--quantize int4`) are
    # packed in any case: their kernel computes something else without.
    prepacking: Prepacking = field(
        default="throughput",
        metadata=flag(
            "Pack weights for speed, in fp32 those in 8 bits that the CPU has no product for, or share them in memory."
        ),
    )

    # Sockets of the processes that drive the devices, one for each of `device_ids`; none: this process does.
    engines_at: tuple[str, ...] = ()
    # Memory that is shared with each of them, for each model and either way; what is larger goes slowly.
    link_bytes: int = field(default=64 * 2**20, metadata=in_range(least=2**16))

    def __post_init__(self) -> None:
        check_ranges(self)
        check_partners(self)
        if self.prepacking not in ("throughput", "footprint"):
            raise InvalidRequest(f"prepacking is {self.prepacking!r}: it must be 'throughput' or 'footprint'")
        check_device(self.device)
        self._check_of_device()

    def _check_of_device(self) -> None:
        if isinstance(self.device_ids, list):
            object.__setattr__(self, "device_ids", tuple(self.device_ids))
        ids = self.device_ids
        numbers = isinstance(ids, tuple) and all(type(each) is int and each >= 0 for each in ids)
        if not numbers or not ids or len(set(ids)) < len(ids):
            raise InvalidRequest(f"device_ids is {ids!r}: give numbers of GPUs, each once, as (0, 1)")
        if self.allow_unsupported_gpu and self.device != "tensorrt":
            raise InvalidRequest(
                f"allow_unsupported_gpu is {self.allow_unsupported_gpu} with device {self.device!r}: it is of "
                "TensorRT's plans: take --device tensorrt, or leave it out"
            )
        if self.device == "cpu" and ids != (0,):
            raise InvalidRequest(f"device_ids is {list(ids)}: a CPU has one engine, its numbers are of GPUs")
        if self.device != "cpu" and self.instances > 1:
            raise InvalidRequest(
                f"instances is {self.instances} with device {self.device!r}: passes beside each other are a CPU's, a "
                "GPU has one stream of them: leave it out"
            )
        if self.threads and self.instances > self.threads:
            raise InvalidRequest(
                f"instances is {self.instances} with threads {self.threads}: each pass has a thread at least: give at "
                "most as many"
            )
        if self.device_tokens_bytes and self.device != "cuda":
            raise InvalidRequest(
                f"device_tokens_bytes is {self.device_tokens_bytes} with device {self.device!r}: tokens stay on a "
                "device with 'cuda' only; a CPU has --host-tokens"
            )
        if self.device_rows_bytes and self.device != "cuda":
            raise InvalidRequest(
                f"device_rows_bytes is {self.device_rows_bytes} with device {self.device!r}: rows of ids are kept on a "
                "device with 'cuda' only; a CPU reads them in place: leave --device-rows out"
            )

    @property
    def bulk_tokens(self) -> int:
        """Tokens of a pass that large requests have together beside small ones, within those of any pass."""
        return min(self.max_bulk_tokens, self.max_batch_tokens)

    @property
    def text_batch_tokens(self) -> int:
        """Tokens of whole texts in one pass, within those of any pass."""
        return min(self.max_batch_tokens, self.max_text_batch_tokens)


def in_one_instance(config: EngineConfig, bundle: str, because: str) -> EngineConfig:
    """Takes the settings of a model whose passes do not run beside each other; warns why where they were to."""
    if config.instances > 1:
        told = "bundle %r computes one pass at a time, with all threads, not in %d instances: %s"
        _log.warning(told, bundle, config.instances, because)
    return replace(config, instances=1)


DEFAULTS = EngineConfig()
"""The engine as it is without a word from the user."""

CUDA_DEFAULTS = EngineConfig(
    device="cuda",
    # A GPU is at full speed from some ten thousand tokens on.
    max_batch_tokens=16_384,
    max_text_batch_tokens=16_384,
    max_bulk_tokens=4_096,
    # The mask of a chunk grows with its square.
    max_prefill_tokens=4_096,
    # Padding is computed: see `rectangle`.
    max_padding_ratio=1.2,
    prefix_cache_bytes=8 * 2**30,
    device_rows_bytes=2**30,
    max_active_requests=128,
    max_queued_requests=1024,
    max_queued_tokens=8_000_000,
)
"""The engine on a GPU, without a word from the user."""

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
        device_rows_bytes=0,
    ),
}


def engine_config(device: Device = "cpu", **given: object) -> EngineConfig:
    """Takes the defaults of a device, but for what is `given` and not None. Raises as `EngineConfig`."""
    check_device(device)
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(_OF_DEVICE[device], **chosen)  # type: ignore[arg-type]
