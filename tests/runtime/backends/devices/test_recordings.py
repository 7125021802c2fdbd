"""Recorded passes: every prefill of short prefixes at load, nothing lost as passes grow, all of it counted."""

import ctypes
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends import trial
from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces, RecordingCounts
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.devices.recordings import Recordings
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.layouts.sizes import prefill_prefixes, prefill_sizes, prefill_tokens
from rankport.runtime.bundle.manifest import GraphSpec, Manifest, TensorSpec
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.bundle_samples import RANKER_FILES, manifest_of, ranker_draft
from support.gpu.host_device import HostMemory, host_backend

TOKENS, PREFIXES, LONGEST = 512, 24, 40
KV = ("key", "value")
TRIAL = Path(trial.__file__).parent / "ranker" / "bundle"


@dataclass
class ShapesOnly:
    """A `DeviceGraph` that computes zeros, and refuses to be recorded if told so."""

    refuses: bool = False
    shapes: list[tuple[int | None, tuple[int, ...]]] = field(default_factory=list)
    input_names: frozenset[str] = frozenset(["input_ids", "past_key.0", "past_value.0"])
    host_names: frozenset[str] = frozenset()

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        *,
        fixed: int | None = None,
    ) -> None:
        if self.refuses and fixed is not None:
            raise BackendError("no room for a recording")
        self.shapes.append((fixed, inputs["input_ids"].shape))
        for array in outputs.values():
            ctypes.memset(array.pointer, 0, array.nbytes)

    def close(self) -> None:
        pass


def spec(role: str) -> GraphSpec:
    ids = TensorSpec(name="input_ids", dtype="int64", shape=["prefixes", "rows", "row_tokens"])
    kv = [TensorSpec(name=f"new_{side}.0", dtype="float32", shape=["prefixes", 1, "slots", 4]) for side in KV]
    return GraphSpec(role=role, file=role, opset=20, target="onnx-cuda", inputs=[ids], outputs=kv)


@pytest.fixture
def manifest() -> Manifest:
    return manifest_of(ranker_draft(graphs=[spec("prefix"), spec("score")]), RANKER_FILES)


@pytest.fixture
def graphs() -> ScoringGraphs:
    return ScoringGraphs(ShapesOnly(), ShapesOnly())


@pytest.fixture
def device(manifest: Manifest, graphs: ScoringGraphs) -> Iterator[DevicePrefixBackend]:
    backend = DevicePrefixBackend(manifest, graphs, HostMemory())
    yield backend
    backend.close()


def prefill(device: DevicePrefixBackend, *lengths: int) -> tuple[Any, ...]:
    runs = TokenRuns.of_lengths(np.ones(sum(lengths), np.int64), lengths)
    return device.prefill(PrefixBatch(((),) * len(lengths), runs, np.arange(len(lengths))))


def score(device: DevicePrefixBackend, prefixes: tuple[PrefixPieces, ...], items: int = 2) -> None:
    count = items * len(prefixes)
    owners = np.repeat(np.arange(len(prefixes)), items)
    device.score(PrefixBatch(prefixes, TokenRuns.of_lengths(np.ones(count, np.int64), [1] * count), owners))


def test_prefill_passes_have_few_sizes_and_each_is_listed() -> None:
    sizes = prefill_sizes(4096, 128, 4096)
    assert len(sizes) == len(set(sizes)) == 104
    assert sizes == sorted(sizes, key=lambda size: -size[0] * size[1])
    for count in range(1, 129):
        rounded = prefill_prefixes(count)
        assert count <= rounded == prefill_prefixes(rounded)
        assert rounded <= count * 1.25 or count < 32
        for tokens in range(1, min(128, 4096 // count) + 1):
            assert (rounded, prefill_tokens(tokens)) in sizes
    assert [prefill_tokens(tokens) for tokens in (1, 60, 65, 128, 129, 1000)] == [16, 64, 80, 128, 136, 1024]


def test_no_prefill_of_short_prefixes_is_recorded_after_the_load(
    device: DevicePrefixBackend, graphs: ScoringGraphs
) -> None:
    sizes = prefill_sizes(TOKENS, PREFIXES, LONGEST)
    device.record_prefills(sizes)
    launched = device.recordings.launched
    assert device.recordings.recorded == len(sizes)
    rng = np.random.default_rng(0)
    for _ in range(60):
        count = int(rng.integers(1, PREFIXES + 1))
        longest = min(LONGEST, TOKENS // count)
        lengths = rng.integers(1, longest + 1, count).tolist()
        assert [kv.length for kv in prefill(device, *lengths)] == lengths
    counts = device.recordings
    assert (counts.recorded, counts.replayed, counts.launched) == (len(sizes), 60, launched)
    assert isinstance(graphs.prefix, ShapesOnly)
    shapes = {number: shape for number, shape in graphs.prefix.shapes if number is not None}
    assert sorted((shape[0], shape[2]) for shape in shapes.values()) == sorted(sizes)


def test_score_passes_that_grow_lose_no_recorded_prefill(device: DevicePrefixBackend) -> None:
    device.record_prefills([(8, 16)])
    pieces = tuple((kv,) for kv in prefill(device, *[5] * 8))
    for count in (1, 2, 8):
        score(device, pieces[:count])
    prefill(device, *[6] * 7)
    assert (device.recordings.recorded, device.recordings.replayed) == (1, 2)


@pytest.mark.parametrize(("held_bytes", "recorded"), [(2**20, 1), (0, 2)])
def test_passes_within_the_room_held_at_load_are_recorded_once(
    device: DevicePrefixBackend, held_bytes: int, recorded: int
) -> None:
    pieces = tuple((kv,) for kv in prefill(device, *[5] * 12))
    device.hold(12, 40, held_bytes)
    score(device, pieces[:1], items=24)  # as many inputs as later
    for batch in [pieces[:2]] * 3 + [pieces] + [pieces[:2]] * 3:
        score(device, batch)
    assert device.recordings.recorded == recorded


def test_a_device_that_cannot_record_is_loaded_all_the_same(
    device: DevicePrefixBackend, graphs: ScoringGraphs, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(graphs.prefix, ShapesOnly)
    graphs.prefix.refuses = True
    with caplog.at_level(logging.WARNING):
        device.record_prefills([(2, 16), (1, 16)])
    assert "prefill passes are not recorded beforehand, which takes longer: no room" in caplog.text
    assert device.recordings.recorded == 0
    graphs.prefix.refuses = False  # as a graph does for a pass that it could not record
    assert [kv.length for kv in prefill(device, 3, 4)] == [3, 4]


def test_passes_are_counted_by_how_they_were_started() -> None:
    recordings = Recordings(after=1)
    for _ in range(4):
        with recordings.counted(recordings.number("score", 7, (1,))):
            pass
    with pytest.raises(BackendError), recordings.counted(recordings.number("score", 8, (1,))):
        raise BackendError("out of memory")
    counts = recordings.counts
    assert counts == RecordingCounts(1, 1, 2, counts.recording_s)
    assert counts.recording_s > 0
    with recordings.at_once():
        assert recordings.number("score", 9, (1,)) is not None
    assert recordings.number("score", 10, (1,)) is None


def test_prefixes_of_a_padded_pass_have_the_kv_of_each_alone() -> None:
    """By the logits behind them, against the whole texts without a prefix."""
    bundle = open_bundle(TRIAL)
    backend = host_backend(bundle, HostMemory())
    lengths, rng = [3, 5, 1, 4, 2], np.random.default_rng(0)
    prefixes = [rng.integers(1, bundle.manifest.shape.vocab_size, length) for length in lengths]
    kvs = backend.prefill(PrefixBatch.of([()] * 5, [TokenRun(one) for one in prefixes], np.arange(5)))
    item = TokenRun(np.array([2, 1]))
    behind = backend.score(PrefixBatch.of([(kv,) for kv in kvs], [item] * 5, np.arange(5)))
    whole = [TokenRun(np.concatenate([prefix, item.ids])) for prefix in prefixes]
    alone = [backend.score(PrefixBatch.of([()], [run], np.zeros(1, np.int64)))[0] for run in whole]
    np.testing.assert_allclose(behind, alone, atol=1e-5)
    backend.close()
