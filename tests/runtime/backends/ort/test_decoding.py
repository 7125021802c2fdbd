"""Steps of the decoding backend, whatever rows of the pool take part, beside one pass over whole texts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.ort.decoding import OnnxRuntimeDecodeBackend
from rankport.runtime.backends.write_contract import SequenceKV
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRun

PROMPT, STEPS = 6, 90  # rows grow once on the way
TEXTS = np.random.default_rng(3).integers(3, 60, (4, PROMPT + STEPS))


@pytest.fixture(scope="module")
def bundle_beside(ranker_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """A generator as those of before: a step gives a token's KV, which the reader puts behind the past."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 64}
    return exported(ranker_checkpoint, name="beside", kind="generator", **limits)


@pytest.fixture(scope="module", params=["generator_bundle", "bundle_beside"])
def backend(request: pytest.FixtureRequest) -> Iterator[OnnxRuntimeDecodeBackend]:
    bundle: Bundle = request.getfixturevalue(request.param)
    asked = {value.name for value in bundle.graph("decode").inputs}
    assert ("in_place" in asked) == (request.param == "generator_bundle")
    with closing(OnnxRuntimeDecodeBackend(bundle, EngineConfig(threads=1))) as opened:
        yield opened


def begun(backend: OnnxRuntimeDecodeBackend, text: NDArray[np.int64]) -> SequenceKV:
    prompt = PrefixBatch.of([()], [TokenRun(text[:PROMPT])], np.zeros(1, np.int64))
    return backend.begin(backend.prefill(prompt))


def at_once(backend: OnnxRuntimeDecodeBackend, text: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits behind each token of a text, of a pass in which all stand. [steps, vocabulary]"""
    batch = replace(PrefixBatch.of([()], [TokenRun(text)], np.zeros(1, np.int64)), every_token=True)
    return backend.logits(batch)[PROMPT:]


def stepped(
    backend: OnnxRuntimeDecodeBackend, parts: Sequence[Sequence[int]]
) -> dict[int, list[NDArray[np.float32]]]:
    """Decodes texts, a pass for each of some that take part; gives the logits that each text got."""
    sequences = [begun(backend, text) for text in TEXTS]
    logits: dict[int, list[NDArray[np.float32]]] = {place: [] for place in range(len(TEXTS))}
    for part in parts:
        tokens = np.array([TEXTS[place, PROMPT + len(logits[place])] for place in part])
        rows = backend.decode([sequences[place] for place in part], tokens)
        for place, row in zip(part, rows, strict=True):
            logits[place].append(row)
    for sequence in sequences:
        backend.end(sequence)
    return logits


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([[0, 1, 2, 3]] * STEPS, id="all rows"),
        pytest.param([[3, 1]] * STEPS, id="rows apart, in another order"),
        pytest.param([[0], [2, 1], [1, 0], [3], [0, 1, 2]] * (STEPS // 5), id="each pass others"),
    ],
)
def test_steps_give_the_logits_of_whole_texts(
    backend: OnnxRuntimeDecodeBackend, parts: list[list[int]]
) -> None:
    for place, logits in stepped(backend, parts).items():
        if logits:
            expected = at_once(backend, TEXTS[place])[: len(logits)]
            np.testing.assert_allclose(np.stack(logits), expected, atol=2e-5)
