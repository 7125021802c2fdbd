"""States of texts that are being written on a device of host memory: each text's own, made anew by every step."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rankport.protos.generation import Sampling
from rankport.runtime.backends.devices.decoding import DeviceDecodeBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines import local
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from support.decoding_steps import PROMPT, STEPS, TEXTS, begun, one_run, stepped
from support.effort import every_run
from support.gpu.host_device import HostMemory, host_writer

PROMPTS = [[1, 40], [5], [1, *range(30, 50), 7, 8, 9], [1, *range(30, 50), 60]]
PARTS = {
    "all rows": [[0, 1, 2, 3, 4]] * STEPS,
    "rows apart, in another order": [[3, 1]] * STEPS,
    "each pass others": [[0], [2, 1], [1, 0], [3], [0, 1, 2], [4, 2, 3]] * (STEPS // 6),
}


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(hybrid_on_cuda: Bundle, memory: HostMemory) -> Iterator[DeviceDecodeBackend]:
    backend = host_writer(hybrid_on_cuda, memory)
    yield backend
    backend.close()


@pytest.mark.parametrize("parts", every_run(PARTS, {"each pass others"}))
def test_steps_give_the_logits_of_whole_texts(device: DeviceDecodeBackend, parts: str) -> None:
    for place, logits in stepped(device, TEXTS, PARTS[parts]).items():
        if logits:
            whole = device.logits(replace(one_run(TEXTS[place]), every_token=True))[PROMPT:]
            np.testing.assert_allclose(np.stack(logits), whole[: len(logits)], atol=1e-4)


@pytest.mark.parametrize("first", ["broken", "sound"])
def test_what_a_text_leaves_behind_changes_no_other(
    device: DeviceDecodeBackend, memory: HostMemory, first: str
) -> None:
    """A text whose states are no numbers any more ends; another has its row then, or is moved there."""
    (broken,) = device.prefill(one_run(np.arange(3, 60)))
    memory.alive[broken.buffer.pointer][:] = 0xFF
    sequences = [device.begin((broken,))]
    if first == "sound":
        sequences.append(begun(device, TEXTS[0]))
    device.decode(sequences, np.repeat(TEXTS[0, PROMPT], len(sequences)))
    device.end(sequences[0])
    sound = begun(device, TEXTS[0]) if first == "broken" else sequences[1]
    nothing = device.begin(())  # in a row that had none, or a broken one
    whole = device.logits(replace(one_run(TEXTS[0]), every_token=True))[PROMPT:]
    of_nothing = device.logits(replace(one_run(TEXTS[1]), every_token=True))
    for step in range(first == "sound", 5):
        logits = device.decode([sound], TEXTS[0, PROMPT + step : PROMPT + step + 1])
        np.testing.assert_allclose(logits[0], whole[step], atol=1e-4)
    for step in range(3):
        logits = device.decode([nothing], TEXTS[1, step : step + 1])
        np.testing.assert_allclose(logits[0], of_nothing[step], atol=1e-4)


def test_a_step_that_fails_leaves_every_text_where_it_was(
    device: DeviceDecodeBackend, memory: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [begun(device, text) for text in TEXTS[:3]]
    device.decode(sequences, TEXTS[:3, PROMPT])
    with monkeypatch.context() as failing:

        def lost(*shape: object) -> None:
            raise RuntimeError("no answer")

        failing.setattr(memory, "download", lost)
        with pytest.raises(RuntimeError, match="no answer"):  # once the graph has run
            device.decode(sequences, TEXTS[:3, 0])
    assert {sequence.length for sequence in sequences} == {PROMPT + 1}
    logits = device.decode(sequences, TEXTS[:3, PROMPT + 1])
    for text, row in zip(TEXTS, logits, strict=False):
        whole = device.logits(replace(one_run(text), every_token=True))[PROMPT + 1]
        np.testing.assert_allclose(row, whole, atol=1e-4)


def test_a_step_copies_no_state_and_none_leaves_the_device(
    hybrid_on_cuda: Bundle, device: DeviceDecodeBackend, memory: HostMemory
) -> None:
    token_bytes = sum(
        2 * layer.kv_heads * layer.head_dim * 4 for layer in hybrid_on_cuda.manifest.shape.layers
    )
    sequences = [begun(device, text) for text in TEXTS]
    device.decode(sequences, TEXTS[:, PROMPT])
    before = replace(memory.transfers)
    for step in range(1, 10):
        device.decode_likeliest(sequences, TEXTS[:, PROMPT + step])
    assert memory.transfers.on_device - before.on_device == 9 * len(TEXTS) * token_bytes
    told = 3 * len(TEXTS) * 64 + len(TEXTS)
    assert memory.transfers.to_host - before.to_host == 9 * 4 * told


def test_steps_that_come_again_are_recorded_for_each_of_the_two_blocks_of_states(
    hybrid_on_cuda: Bundle, memory: HostMemory
) -> None:
    numbers = list[int | None]()
    backend = host_writer(hybrid_on_cuda, memory, numbers.append)
    sequences = [begun(backend, text) for text in TEXTS[:2]]
    numbers.clear()
    for step in range(12):
        backend.decode(sequences, TEXTS[:2, PROMPT + step])
    backend.close()
    assert numbers[:4] == [None] * 4
    even, odd = numbers[4::2], numbers[5::2]
    assert None not in numbers[4:]
    assert (len({*even}), len({*odd}), len({*numbers[4:]})) == (1, 1, 2)


def test_texts_searches_and_scores_are_those_of_the_cpu(
    hybrid_bundle: Bundle, hybrid_on_cuda: Bundle, memory: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [
        Sampling(max_tokens=30, temperature=0.0),
        Sampling(max_tokens=12, temperature=1.0, seed=11, top_k=20, repetition_penalty=1.3),
        Sampling(max_tokens=12, temperature=1.0, seed=12),  # of all tokens
    ]
    trie = TokenTrie.of(["a", "b", "c"], np.array([[9, 9, 9], [9, 8, 7], [5, 6, 7]]), 101)
    items = [[9, 9, 9, 7], [5], [5, 6]] * 8

    def asked(generator: Generator) -> tuple[Any, ...]:
        futures = [
            generator.submit_generate(prompt, order)
            for _ in range(2)
            for order in orders
            for prompt in PROMPTS
        ]
        others = generator.submit_generate([1, 77], Sampling(max_tokens=150))
        found = generator.search(PROMPTS[0], trie, beams=8)
        scores = np.concatenate([found.scores, generator.score(PROMPTS[2], items).scores])
        texts = [future.result(60).token_ids for future in futures]
        others.cancel()
        return texts, found.keys, scores

    with Generator.load(hybrid_bundle, config=EngineConfig(threads=1)) as generator:
        expected = asked(generator)
    backend = host_writer(hybrid_on_cuda, memory)
    monkeypatch.setattr(local, "load_decode_backend", lambda *_, **__: backend)
    with Generator.load(hybrid_on_cuda, config=EngineConfig(max_prefill_tokens=16)) as generator:
        texts, keys, scores = asked(generator)
    assert (texts, keys) == expected[:2]
    np.testing.assert_allclose(scores, expected[2], atol=2e-4)
    gc.collect()  # futures refer to what asked for them
    assert not memory.alive
