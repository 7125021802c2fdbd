"""Proofs of kinds that read whole texts cross a window which their ordinary samples do not reach the end of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.texts import graph, samples
from rankport.exporters.kinds.texts.across_window import AcrossWindow, windows_of_texts
from rankport.exporters.proof import windows
from rankport.protos.errors import ParityError
from support import checkpoints
from support.effort import every_run
from support.reading.taggers import tagger_checkpoint

MOST, WINDOW = 160, 100
LOCAL: dict[str, Any] = {
    "local_attention": 2 * WINDOW,  # half of it each way
    "layer_types": ["sliding_attention"],
    "num_hidden_layers": 1,
    "max_position_embeddings": MOST,
}


def last_token_encoder(folder: Path) -> Path:
    config = {"sliding_window": WINDOW, "num_hidden_layers": 1, "max_position_embeddings": MOST}
    return checkpoints.body(folder, "mistral", **config)


def head(folder: Path) -> Path:
    return checkpoints.classifier(folder, "modernbert", **LOCAL)


def tagger(folder: Path) -> Path:
    return tagger_checkpoint(folder, model_type="modernbert", **LOCAL)


KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "item-encoder": (last_token_encoder, {"pooling": "last-k", "max_item_tokens": MOST}),
    "cross-encoder": (head, {"max_pair_tokens": MOST}),
    "classifier": (head, {"max_item_tokens": MOST}),
    "tagger": (tagger, {"max_item_tokens": MOST}),
}


@pytest.fixture
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for 2,048 tokens and a window of 4,096, by shorter ones."""
    monkeypatch.setattr(samples, "LONGEST", 64)
    monkeypatch.setattr(windows, "LONGEST_WINDOW", 128)


def traced_with(off: int) -> Callable[..., Any]:
    """Traces with every window longer than it is."""

    def traced(module: Any, *arguments: Any) -> Any:
        config = module.model.config
        config.sliding_window += off
        try:
            return plain(module, *arguments)
        finally:
            config.sliding_window -= off

    plain = graph.trace
    return traced


@pytest.mark.parametrize("kind", every_run(KINDS, {"item-encoder", "cross-encoder"}))
@pytest.mark.usefixtures("short_samples")
def test_a_window_off_by_one_is_told_by_what_crosses_it_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, options = KINDS[kind]
    monkeypatch.setattr(graph, "trace", traced_with(1))
    with pytest.raises(ParityError, match="one_item/beyond_window") as caught:
        export(made(tmp_path / "c"), tmp_path / "b", kind=kind, **options)
    said = str(caught.value)
    assert "batch/beyond_window" in said
    assert said.count("one_item") == said.count("batch") == 1, said


FAMILIES: dict[str, tuple[dict[str, Any], set[int]]] = {
    "mistral": ({"sliding_window": WINDOW}, {WINDOW}),
    "modernbert": (LOCAL, {WINDOW}),
    "bert": ({}, set()),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_are_those_of_the_masks_that_a_text_is_read_with(family: str, tmp_path: Path) -> None:
    config, sizes = FAMILIES[family]
    model = load_checkpoint(checkpoints.body(tmp_path, family, **config), head="none").model
    assert set(windows_of_texts(model)) == sizes
    across = AcrossWindow.of(model, 101, 64, MOST)
    assert [len(run) for run in across.runs] == ([9, 112] if sizes else [])
    assert AcrossWindow.of(model, 101, MOST, MOST) == AcrossWindow((), None)


def test_a_window_that_would_ask_for_too_long_a_text_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LONGEST_WINDOW", WINDOW - 1)
    model = load_checkpoint(last_token_encoder(tmp_path), head="none").model
    assert AcrossWindow.of(model, 101, 64, MOST) == AcrossWindow((), WINDOW)
