"""Steps of the decoding backend, whatever rows of the pool take part, beside one pass over whole texts."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.ort.decoding import OnnxRuntimeDecodeBackend
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from support.decoding_steps import PROMPT, STEPS, begun, one_run, stepped
from support.decoding_steps import TEXTS as ALL_TEXTS

TEXTS = ALL_TEXTS[:4]


@pytest.fixture(scope="module")
def bundle_beside(ranker_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """A generator as those of before: a step gives a token's KV, which the reader puts behind the past."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 64}
    return exported(ranker_checkpoint, name="beside", kind="generator", **limits)


@pytest.fixture(scope="module", params=["generator_bundle", "bundle_beside", "hybrid_bundle"])
def backend(request: pytest.FixtureRequest) -> Iterator[OnnxRuntimeDecodeBackend]:
    bundle: Bundle = request.getfixturevalue(request.param)
    asked = {value.name for value in bundle.graph("decode").inputs}
    assert ("in_place" in asked) == (request.param != "bundle_beside")
    with closing(OnnxRuntimeDecodeBackend(bundle, EngineConfig(threads=1))) as opened:
        yield opened


def at_once(backend: OnnxRuntimeDecodeBackend, text: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits behind each token of a text, of a pass in which all stand. [steps, vocabulary]"""
    batch = replace(one_run(text), every_token=True)
    return backend.logits(batch)[PROMPT:]


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
    for place, logits in stepped(backend, TEXTS, parts).items():
        if logits:
            expected = at_once(backend, TEXTS[place])[: len(logits)]
            np.testing.assert_allclose(np.stack(logits), expected, atol=5e-5)


@pytest.mark.parametrize("part", [[0, 1, 2, 3], [2, 0]])
def test_a_step_that_fails_leaves_every_text_where_it_was(
    part: list[int], backend: OnnxRuntimeDecodeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [begun(backend, text) for text in TEXTS]
    run_bound, run = Session.run_bound, Session.run

    def failing(session: Session, *arguments: object) -> None:
        (run_bound if len(arguments) > 1 else run)(session, *arguments)  # type: ignore[arg-type]
        raise BackendError("a step that ends too late")

    for step in range(3):
        tokens = TEXTS[part, PROMPT + step]
        given = [sequences[place] for place in part]
        with monkeypatch.context() as patch:
            patch.setattr(Session, "run_bound", failing)
            patch.setattr(Session, "run", failing)
            with pytest.raises(BackendError):
                backend.decode(given, tokens)
        logits = backend.decode(given, tokens)
        for place, row in zip(part, logits, strict=True):
            np.testing.assert_allclose(row, at_once(backend, TEXTS[place])[step], atol=5e-5)
    for sequence in sequences:
        backend.end(sequence)
