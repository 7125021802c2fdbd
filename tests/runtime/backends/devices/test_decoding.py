"""Generators on a device of host memory: the CPU's texts and logits in every mode, KV that never leaves it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.protos.errors import BackendError, InvalidRequest
from rankport.protos.generation import Sampling
from rankport.runtime.backends import choice
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.devices.decoding import DeviceDecodeBackend
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend
from rankport.runtime.backends.warm_up import warm_up_writing
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines import local
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from rankport.runtime.softmax import log_sums
from rankport.runtime.tokens import TokenRun
from support.decoding_steps import PROMPT, STEPS, TEXTS, begun, one_run, stepped
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_writer

pytestmark = pytest.mark.usefixtures("traces")

VOCABULARY = 101
PROMPTS = [[1, 40], [1, 41, 42, 43, 44, 45, 46], [1, *range(30, 60)], [5]]
LIMITS = {"kind": "generator", "max_prefix_tokens": 64, "max_item_tokens": 64}


@pytest.fixture(scope="module")
def bundle(generator_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """fp32 for both targets."""
    folder = tmp_path_factory.mktemp("writer")
    return export(
        generator_checkpoint, folder / "b", target="onnx-cpu,onnx-cuda", scores="beginning", **LIMITS
    )


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(bundle: Bundle, memory: HostMemory) -> Iterator[DeviceDecodeBackend]:
    backend = host_writer(bundle.for_target("onnx-cuda"), memory)
    yield backend
    backend.close()


@pytest.fixture
def load(bundle: Bundle, memory: HostMemory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Generator]:
    """Loads the generator over the device."""

    def loaded(**knobs: int) -> Generator:
        backend = host_writer(bundle.for_target("onnx-cuda"), memory)
        monkeypatch.setattr(local, "load_decode_backend", lambda *_, **__: backend)
        return Generator.load(bundle, config=EngineConfig(**knobs))

    return loaded


@pytest.fixture(scope="module")
def cpu(bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        yield generator


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([[0, 1, 2, 3, 4]] * STEPS, id="all rows"),
        pytest.param([[3, 1]] * STEPS, id="rows apart, in another order"),
        pytest.param([[0], [2, 1], [1, 0], [3], [0, 1, 2], [4, 2, 3]] * (STEPS // 6), id="each pass others"),
    ],
)
def test_steps_give_the_logits_of_whole_texts(device: DeviceDecodeBackend, parts: list[list[int]]) -> None:
    for place, logits in stepped(device, TEXTS, parts).items():
        if logits:
            whole = device.logits(replace(one_run(TEXTS[place]), every_token=True))[PROMPT:]
            np.testing.assert_allclose(np.stack(logits), whole[: len(logits)], atol=2e-5)


def test_texts_are_those_of_the_cpu_whatever_is_written_beside_them(
    cpu: Generator, load: Callable[..., Generator]
) -> None:
    greedy = [Sampling(max_tokens=40 + place, stop_ids=()) for place in range(3)]
    drawn = [
        Sampling(max_tokens=12, temperature=1.0, seed=11, top_k=20, repetition_penalty=1.3),
        Sampling(max_tokens=12, temperature=1.0, seed=12),  # of all tokens
    ]
    adjusted = [
        Sampling(max_tokens=12, presence_penalty=1.0, frequency_penalty=0.5, min_tokens=12),
        Sampling(max_tokens=12, presence_penalty=-1.0, logit_bias={7: 3.0}),
        Sampling(max_tokens=12, temperature=0.9, seed=3, top_k=9, logit_bias={7: 5.0, 40: -9.0}),
    ]
    orders = [(prompt, sampling) for sampling in (*greedy, *drawn, *adjusted) for prompt in PROMPTS]
    expected = [cpu.generate(*order).token_ids for order in orders]
    with load(max_prefill_tokens=16) as generator:  # a long prompt goes in chunks
        futures = [generator.submit_generate(*order) for order in orders]
        assert [future.result().token_ids for future in futures] == expected
        again = [generator.generate(*order) for order in orders]
    assert [result.token_ids for result in again] == expected
    assert again[2].usage.prompt_tokens_cached == len(PROMPTS[2]) - 1


def test_searches_and_scores_are_those_of_the_cpu(cpu: Generator, load: Callable[..., Generator]) -> None:
    rng = np.random.default_rng(0)
    trie = TokenTrie.of([f"{place}" for place in range(60)], rng.integers(50, 56, (60, 3)), VOCABULARY)
    items = [rng.integers(3, VOCABULARY, count).tolist() for count in rng.integers(1, 30, 40)]
    with load() as generator:
        futures = [generator.submit(prompt, items) for prompt in PROMPTS]
        for prompt, future in zip(PROMPTS, futures, strict=True):
            found, expected = (each.search(prompt, trie, beams=16) for each in (generator, cpu))
            assert found.keys == expected.keys
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            np.testing.assert_allclose(future.result().scores, cpu.score(prompt, items).scores, atol=1e-4)


def test_a_step_moves_a_token_and_kv_never_leaves_the_device(
    bundle: Bundle, device: DeviceDecodeBackend, memory: HostMemory
) -> None:
    token_bytes = sum(2 * layer.kv_heads * layer.head_dim * 4 for layer in bundle.manifest.shape.layers)
    sequences = [begun(device, text) for text in TEXTS]
    device.decode(sequences, TEXTS[:, PROMPT])
    before = replace(memory.transfers)
    for step in range(1, 10):
        device.decode(sequences, TEXTS[:, PROMPT + step])
    told = 3 * len(TEXTS) * 64 + len(TEXTS)
    assert memory.transfers.to_host - before.to_host == 9 * 4 * (told + len(TEXTS) * VOCABULARY)
    assert memory.transfers.on_device - before.on_device == 9 * len(TEXTS) * token_bytes
    mask = 64 * len(TEXTS) * 4
    assert memory.transfers.to_device - before.to_device <= 9 * (mask + 5 * 256)


def test_of_greedy_texts_searches_and_scores_no_row_of_logits_leaves_the_device(
    memory: HostMemory, load: Callable[..., Generator], cpu: Generator
) -> None:
    greedy = Sampling(
        max_tokens=20,
        logprobs=True,
        top_logprobs=5,
        presence_penalty=0.5,
        min_tokens=20,
        logit_bias={3: -1.0},
    )
    told = 4 * (3 * 64 + 1)
    trie = TokenTrie.of(["a", "b", "c"], np.array([[50, 51], [50, 52], [53, 51]]), VOCABULARY)
    with load() as generator:
        written = generator.generate(PROMPTS[0], greedy)
        assert memory.transfers.to_host == 20 * told
        expected = cpu.generate(PROMPTS[0], greedy)
        assert written.token_ids == expected.token_ids
        assert written.logprobs is not None
        assert expected.logprobs is not None
        np.testing.assert_allclose(written.logprobs, expected.logprobs, atol=1e-5)
        for ours, theirs in zip(written.top_logprobs, expected.top_logprobs, strict=True):
            assert [each.token_id for each in ours] == [each.token_id for each in theirs]
            np.testing.assert_allclose(
                [each.logprob for each in ours], [each.logprob for each in theirs], atol=1e-5
            )
        before = memory.transfers.to_host
        generator.search(PROMPTS[0], trie, beams=8)
        assert memory.transfers.to_host - before <= 2 * (64 + 8) * 4
        before = memory.transfers.to_host
        generator.score(PROMPTS[0], [[7, 8, 9], [10]])
        assert memory.transfers.to_host - before <= (64 + 8) * 4


def test_any_rows_of_a_step_are_given(device: DeviceDecodeBackend) -> None:
    found = device.decode_likeliest([begun(device, text) for text in TEXTS], TEXTS[:, PROMPT])
    whole = found.rows(np.arange(len(TEXTS)))
    np.testing.assert_array_equal(found.rows(np.array([3, 1])), whole[[3, 1]])
    np.testing.assert_array_equal(np.take_along_axis(whole, found.tokens, 1), found.logits)
    np.testing.assert_array_equal(-np.sort(-found.logits, axis=1), -np.sort(-whole, axis=1)[:, :64])
    np.testing.assert_array_equal(found.bounds, found.logits.min(axis=1))
    np.testing.assert_allclose(found.log_sums, log_sums(whole), rtol=1e-6)


def test_logits_that_are_no_numbers_fail_their_text_alone(
    device: DeviceDecodeBackend, memory: HostMemory
) -> None:
    (broken,) = device.prefill(one_run(np.arange(3, 9)))
    memory.alive[broken.buffer.pointer][:] = 0xFF
    sequences = [device.begin((broken,)), begun(device, TEXTS[0])]
    found = device.decode_likeliest(sequences, TEXTS[:2, PROMPT])
    assert np.isfinite(found.log_sums).tolist() == [False, True]


@pytest.mark.parametrize("every_token", [False, True])
def test_an_item_whose_numbers_are_none_leaves_the_scores_of_those_in_its_row_as_they_are(
    every_token: bool, device: DeviceDecodeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overflows as a row of a GPU does: what one run of it has, all beside it have, unless it is alone."""
    overflows, rng, told = 99, np.random.default_rng(0), DevicePrefixBackend.told
    items = [TokenRun(rng.integers(3, overflows, 1 + place % 3)) for place in range(9)]
    for place in (1, 8):  # of two prefixes, one between them
        items[place].ids[-1] = overflows
    prefixes = [device.prefill(one_run(np.arange(first, 20))) for first in (3, 9, 5)]
    batch = replace(
        PrefixBatch.of(prefixes, items, np.array([0] * 4 + [1] * 3 + [2] * 2)), every_token=every_token
    )
    results = len(batch.read_tokens)
    rows, tokens = rng.permutation(np.repeat(np.arange(results), 2)), rng.integers(0, VOCABULARY, 2 * results)
    right, passes = device.log_probabilities(batch, rows, tokens), list[int]()

    def spread(
        backend: DevicePrefixBackend, given: PrefixBatch, places: NDArray[np.int64]
    ) -> tuple[Any, Any]:
        logits, sums = told(backend, given, places)
        own = np.array([overflows in run.ids for run in given.runs])
        of_row = own if given.apart else np.isin(given.run_prefix, given.run_prefix[own])
        sums = np.where(np.repeat(of_row, given.runs.lengths) if every_token else of_row, np.nan, sums)
        passes.append(len(given.runs))
        return logits, sums

    monkeypatch.setattr(DevicePrefixBackend, "told", spread)
    found = device.log_probabilities(batch, rows, tokens)
    run_of = np.repeat(np.arange(9), batch.runs.lengths) if every_token else np.arange(9)
    broken = np.isin(run_of[rows], (1, 8))
    assert (np.isnan(found) == broken).all()
    np.testing.assert_allclose(found[~broken], right[~broken], atol=1e-5)
    assert passes == [9, 6]


@pytest.mark.parametrize("first", ["broken", "sound"])
def test_what_a_text_leaves_behind_changes_no_other(
    device: DeviceDecodeBackend, memory: HostMemory, first: str
) -> None:
    """A text whose keys and values are no numbers any more, as of an overflow, ends; another has its row then."""
    (broken,) = device.prefill(one_run(np.arange(3, 60)))
    memory.alive[broken.buffer.pointer][:] = 0xFF
    sequences = [device.begin((broken,))]
    if first == "sound":  # and is moved there
        sequences.append(begun(device, TEXTS[0]))
    device.end(sequences[0])
    sound = begun(device, TEXTS[0]) if first == "broken" else sequences[1]
    whole = device.logits(replace(one_run(TEXTS[0]), every_token=True))[PROMPT:]
    for step in range(5):
        logits = device.decode([sound], TEXTS[0, PROMPT + step : PROMPT + step + 1])
        np.testing.assert_allclose(logits[0], whole[step], atol=2e-5)


def test_a_step_whose_logits_do_not_leave_the_device_is_not_repeated(
    memory: HostMemory, load: Callable[..., Generator], cpu: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens behind a text by then would be there twice: the text that waits for logits fails, and no other."""
    greedy, drawn = (
        (PROMPTS[place], Sampling(max_tokens=12, temperature=float(place), seed=12, stop_ids=()))
        for place in range(2)
    )
    download, rows = memory.download, list[int]()

    def failing(pointer: int, host: NDArray[np.uint8]) -> None:
        if host.nbytes % (4 * VOCABULARY) == 0:
            rows.append(host.nbytes)
            if len(rows) == 4:
                raise BackendError("no page-locked memory")
        download(pointer, host)

    with load() as generator:
        monkeypatch.setattr(memory, "download", failing)
        futures = [generator.submit_generate(*order) for order in (greedy, drawn)]
        assert futures[0].result().token_ids == cpu.generate(*greedy).token_ids
        with pytest.raises(BackendError, match="no page-locked memory"):
            futures[1].result()
        assert generator.generate(*drawn).token_ids == cpu.generate(*drawn).token_ids


def test_a_cancelled_text_ends_between_steps_and_nothing_stays_behind(
    memory: HostMemory, load: Callable[..., Generator], cpu: Generator
) -> None:
    long = Sampling(max_tokens=64, stop_ids=())
    told = list[int]()
    with load(prefix_cache_bytes=4096) as generator:
        futures = [
            generator.submit_generate(prompt, long, on_part=lambda part: told.append(1)) for prompt in PROMPTS
        ]
        while not told:
            pass
        for future in futures[1:]:
            future.cancel()
        assert futures[0].result().token_ids == cpu.generate(PROMPTS[0], long).token_ids
        assert len(told) < len(PROMPTS) * 64
        cache = generator.counts().cache
        assert cache is not None
        assert cache.bytes <= 4096
    assert not memory.alive


def test_a_step_that_comes_again_is_recorded(bundle: Bundle, memory: HostMemory) -> None:
    numbers = list[int | None]()
    backend = host_writer(bundle.for_target("onnx-cuda"), memory, numbers.append)
    warm_up_writing(backend, bundle.manifest, EngineConfig(max_prefill_tokens=16))
    sequences = [begun(backend, text) for text in TEXTS]
    numbers.clear()
    for step in range(5):
        backend.decode(sequences, TEXTS[:, PROMPT + step])
    assert numbers[:2] == [None, None]
    assert numbers[2] is not None
    assert numbers[2:] == [numbers[2]] * 3
    assert backend.recordings.replayed >= 2
    backend.close()
    assert not memory.alive


def test_a_bundle_without_graphs_for_a_gpu_says_so(generator_bundle: Bundle, seq2seq_bundle: Bundle) -> None:
    on_tensorrt = EngineConfig(device="tensorrt")
    with pytest.raises(
        InvalidRequest, match="writes text, which device tensorrt does not yet: take --device cpu or"
    ):
        choice.load_decode_backend(generator_bundle, on_tensorrt)
    with pytest.raises(InvalidRequest, match=r"has graphs for onnx-cpu, not for CUDA: .*--target onnx-cuda"):
        choice.view_for(generator_bundle, "cuda")
    with pytest.raises(
        InvalidRequest, match="reads a text and writes its answer, which device cuda does not yet"
    ):
        Generator.load(seq2seq_bundle, config=EngineConfig(device="cuda"))


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_install(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"pip install 'rankport\[cuda\]'|no NVIDIA GPU"):
        Generator.load(bundle, config=EngineConfig(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
def test_texts_on_cuda_are_those_of_the_cpu(bundle: Bundle, cpu: Generator) -> None:
    greedy = Sampling(max_tokens=60, stop_ids=())
    expected = [cpu.generate(prompt, greedy).token_ids for prompt in PROMPTS]
    trie = TokenTrie.of(["a", "b", "c"], np.array([[50, 51], [50, 52], [53, 51]]), VOCABULARY)
    items = [[7], [8, 9], [10, 11, 12]]
    with Generator.load(bundle, config=EngineConfig(device="cuda", max_prefill_tokens=16)) as generator:
        for _ in range(4):  # launched, recorded, replayed
            futures = [generator.submit_generate(prompt, greedy) for prompt in PROMPTS]
            assert [future.result().token_ids for future in futures] == expected
            for prompt in PROMPTS:
                found, likeliest = (each.search(prompt, trie, beams=2) for each in (generator, cpu))
                assert found.keys == likeliest.keys
                scores = [each.score(prompt, items).scores for each in (generator, cpu)]
                np.testing.assert_allclose(*scores, atol=1e-3)
