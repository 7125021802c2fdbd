"""The device backend on host memory: the CPU backend's logits in every mode, KV that never leaves, nothing left behind.

CUDA itself takes part only where there is a GPU (`gpu`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES, SampleRequest
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.devices.recordings import Recordings
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import rounded_packed
from rankport.runtime.backends.layouts.rectangle import Rectangle, rectangle
from rankport.runtime.backends.layouts.sizes import PassSizes, rounded
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support import checkpoints
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_backend

pytestmark = pytest.mark.usefixtures("traces")

LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}
FORMS = {
    "two graphs": {"kind": "ranker", "label_ids": (9, 17)},
    "one graph, products": {
        "kind": "ranker",
        "label_ids": (9, 17),
        "graphs": "joint",
        "attention": "shared",
    },
    "embedding tokens": {
        "kind": "ranker",
        "label_ids": (9, 17),
        "item_encoder": "0" * 64,
        "embedding_tokens": 2,
    },
}


@pytest.fixture(scope="module", params=FORMS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("device")
    checkpoint = checkpoints.causal_lm(folder / "c", "qwen3", num_hidden_layers=2)
    return export(checkpoint, folder / "b", target="onnx-cuda", **LIMITS, **FORMS[request.param])


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(bundle: Bundle, memory: HostMemory) -> Iterator[DevicePrefixBackend]:
    backend = host_backend(bundle, memory)
    yield backend
    backend.close()


def _requests(bundle: Bundle) -> list[SampleRequest]:
    shape = bundle.manifest.shape
    scale = 1.0 if bundle.manifest.embedding is not None else None
    return list(sample_requests(shape.vocab_size, shape.hidden_size, bundle.manifest.limits, scale))


@pytest.mark.parametrize("mode", MODES)
def test_logits_are_those_of_the_cpu_backend(mode: str, bundle: Bundle, device: DevicePrefixBackend) -> None:
    requests = _requests(bundle)
    expected = MODES[mode](OnnxRuntimePrefixBackend(bundle, EngineConfig(threads=1)), requests)
    for one, other in zip(expected, MODES[mode](device, requests), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("bundle", ["embedding tokens"], indirect=True)
@pytest.mark.parametrize("broken", [[0], [3, 5], [*range(8)], []])
def test_an_item_whose_numbers_are_none_leaves_those_in_its_row_as_they_are(
    broken: list[int], bundle: Bundle, device: DevicePrefixBackend
) -> None:
    rows = np.random.default_rng(0).standard_normal((8, 2, bundle.manifest.shape.hidden_size), np.float32)
    (pieces,) = device.prefill(PrefixBatch.of([()], [TokenRun(np.arange(5, 15))], np.zeros(1, np.int64)))

    def scored() -> NDArray[np.float32]:
        items = [
            TokenRun(np.array([EMBEDDED, 7, EMBEDDED][: 2 + place % 2]), row[: 1 + place % 2])
            for place, row in enumerate(rows)
        ]
        batch = PrefixBatch.of([(pieces,), ()], items, np.array([0] * 5 + [1] * 3))
        assert rectangle(batch, EmbeddingsForm(2)).sizes.rows == 1
        return device.score(batch)

    right = scored()
    rows[broken, 0, 0] = np.nan
    launched = device.recordings.launched
    given = scored()
    assert np.isnan(given).all(axis=1).tolist() == [place in broken for place in range(8)]
    others = [place for place in range(8) if place not in broken]
    np.testing.assert_allclose(given[others], right[others], atol=1e-5)
    assert device.recordings.launched - launched == 1 + bool(broken)


@pytest.mark.parametrize("bundle", ["embedding tokens"], indirect=True)
def test_items_of_a_prefix_whose_numbers_are_none_keep_no_others_from_theirs(
    bundle: Bundle, device: DevicePrefixBackend
) -> None:
    width = bundle.manifest.shape.hidden_size
    prefix = TokenRun(np.array([EMBEDDED]), np.full((1, width), np.nan, np.float32))
    (pieces,) = device.prefill(PrefixBatch.of([()], [prefix], np.zeros(1, np.int64)))
    rows = np.ones((404, 1, width), np.float32)
    rows[400] = np.nan
    items = [TokenRun(np.array([EMBEDDED]), row) for row in rows]
    launched = device.recordings.launched
    logits = device.score(PrefixBatch.of([(pieces,), ()], items, np.array([0] * 400 + [1] * 4)))
    assert np.flatnonzero(np.isfinite(logits).all(axis=1)).tolist() == [401, 402, 403]
    assert device.recordings.launched - launched == 3


def test_only_logits_leave_the_device(
    bundle: Bundle, device: DevicePrefixBackend, memory: HostMemory
) -> None:
    requests = _requests(bundle)
    MODES["prefix_extension"](device, requests)
    items = sum(len(request.items) for request in requests)
    assert memory.transfers.to_host == items * 2 * 4  # two labels in float32
    kv = sum(2 * layer.kv_heads * layer.head_dim * 4 for layer in bundle.manifest.shape.layers)
    prefix_tokens = sum(len(request.prefix.ids) for request in requests)
    # Into handles, and from them to a pass, at least once each.
    assert memory.transfers.on_device >= 2 * prefix_tokens * kv


def test_kv_is_freed_with_its_handle_and_all_with_the_backend(bundle: Bundle, memory: HostMemory) -> None:
    backend = host_backend(bundle, memory)
    prefix = TokenRun(np.array([3, 4, 5, 6]))
    batch = PrefixBatch.of(((),), (prefix,), np.zeros(1, np.int64))
    (kv,) = backend.prefill(batch)
    held = len(memory.alive)
    head, rest = backend.split(kv, 1)
    assert (head.length, rest.length) == (1, 3)
    assert head.nbytes + rest.nbytes == kv.nbytes
    assert len(memory.alive) == held + 2
    del kv
    assert len(memory.alive) == held + 1
    del head, rest
    backend.close()
    assert not memory.alive


def test_passes_started_one_after_the_other_keep_their_logits_apart(
    bundle: Bundle, device: DevicePrefixBackend
) -> None:
    batches = [
        PrefixBatch.of(
            ((),), tuple(TokenRun(np.array([token, 3])) for token in tokens), np.zeros(2, np.int64)
        )
        for tokens in ((5, 6), (7, 8), (9, 10))
    ]
    alone = [device.score(batch) for batch in batches]
    # More than there is memory for answers: those that nobody has read are read in time.
    started = [device.start(batches[index % 3]) for index in range(8)]
    assert not any(one.done for one in started)
    for index in (7, 0, 3, 3, 1, 2, 4, 5, 6):
        np.testing.assert_array_equal(alone[index % 3], started[index].results())


def test_a_ranker_over_the_device_backend_answers_as_over_the_cpu(
    bundle: Bundle, device: DevicePrefixBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, items = [5, 6, 7, 8], [[9, 10], [11], [12, 13, 14]]
    with Ranker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = ranker.score(prefix, items)
    monkeypatch.setattr("rankport.runtime.backends.choice.load_prefix_backend", lambda *_, **__: device)
    monkeypatch.setattr(device, "close", lambda: None)  # the fixture's
    with Ranker.load(bundle) as ranker:
        results = [ranker.submit(prefix, items) for _ in range(8)]
        for result in results:
            np.testing.assert_allclose(result.result(30).logits, expected.logits, atol=1e-5)
        assert ranker.cache_stats().tokens_computed == len(prefix)


def test_without_a_gpu_the_error_says_what_to_install(bundle: Bundle) -> None:
    if has_cuda():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match=r"CUDA|GPU"):
        Ranker.load(bundle, config=EngineConfig(device="cuda"))


def test_graphs_for_a_cpu_are_not_served_on_a_gpu(mix_bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest, match=r"graphs for onnx-cpu, not for CUDA.*--target onnx-cuda"):
        Ranker.load(mix_bundle, config=EngineConfig(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
@pytest.mark.parametrize("mode", MODES)
def test_logits_on_cuda_are_those_of_the_cpu_backend(mode: str, bundle: Bundle) -> None:
    from rankport.runtime.backends.choice import load_prefix_backend

    requests = _requests(bundle)
    expected = MODES[mode](OnnxRuntimePrefixBackend(bundle), requests)
    backend = load_prefix_backend(bundle, EngineConfig(device="cuda"))
    actual = MODES[mode](backend, requests)
    backend.close()
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_sizes_are_rounded_by_a_sixteenth_at_most() -> None:
    for size in range(1, 5000):
        assert size <= rounded(size) <= size * 17 / 16
    assert len({rounded(size) for size in range(4096, 8193)}) == 17
    up = rounded_packed(PassSizes(3, 250, 2, 60, 1500, 750, 1))
    assert (up.row_tokens, up.past % 8, up.rows) == (2, 0, 256)
    assert rounded_packed(PassSizes(1, 1, 1, 0, 1, 1, 1)).past > 0
    assert _rectangle(3, 60, [2] * 250).rounded_sizes() == PassSizes(3, 2, 256, 64, 3 * 2 * 256, 768, 1)
    assert _rectangle(1, 0, [1]).rounded_sizes() == PassSizes(1, 1, 8, 8, 8, 1, 1)


def _rectangle(prefixes: int, past: int, lengths: list[int]) -> Rectangle:
    """The layout of so many prefixes with items of these lengths each."""

    @dataclass
    class Past:
        length: int
        nbytes: int = 0

    pieces = (Past(past),) if past else ()
    items = [TokenRun(np.ones(length, np.int64)) for length in lengths * prefixes]
    owners = np.repeat(np.arange(prefixes), len(lengths))
    return rectangle(PrefixBatch.of([pieces] * prefixes, items, owners), EmbeddingsForm(2))


def test_a_pass_is_recorded_when_it_comes_again_at_the_same_addresses() -> None:
    recordings, sizes = Recordings(after=2, most=2), PassSizes(1, 1, 1, 8, 1, 1, 1)
    seen = [recordings.number("score", sizes, (1, 2)) for _ in range(4)]
    assert seen == [None, None, 0, 0]
    assert [recordings.number("score", sizes, (1, 3)) for _ in range(3)] == [None, None, 1]  # it has moved
    others = [PassSizes(1, 1, 1, 8, 1, 1, count) for count in (2, 3)]
    assert [recordings.number("score", others[0], (1, 3)) for _ in range(3)] == [None, None, 2]
    assert [recordings.number("score", others[1], (1, 3)) for _ in range(3)] == [None] * 3  # two are numbered
    assert [recordings.number("prefix", sizes, (1, 3)) for _ in range(3)] == [None, None, 3]


def test_an_answer_that_failed_is_told_to_its_reader_alone(
    bundle: Bundle, device: DevicePrefixBackend, memory: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = PrefixBatch.of(((),), (TokenRun(np.array([5, 3])),), np.zeros(1, np.int64))
    expected = device.score(batch)

    def lost() -> None:
        raise BackendError("lost on its way")

    started = []
    for index in range(8):
        with monkeypatch.context() as patched:
            if index == 1:
                # The upload's mark comes first, then the answer's.
                marks = iter([memory.mark(), lost])
                patched.setattr(memory, "mark", lambda marks=marks: next(marks))
            started.append(device.start(batch))
    for index, one in enumerate(started):
        if index == 1:
            for _ in range(2):
                with pytest.raises(BackendError, match="lost on its way"):
                    one.results()
        else:
            np.testing.assert_array_equal(one.results(), expected)
