"""The proof of a generator crosses windows: those within its prompts, and one beyond them."""

from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.decoders.survey import Survey
from rankport.exporters.kinds.generator.proof import samples
from rankport.exporters.proof import windows
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Limits
from support import checkpoints

WINDOW = 100


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows") / "c"
    config = {"sliding_window": WINDOW, "num_hidden_layers": 1, "max_position_embeddings": 256}
    return checkpoints.causal_lm(folder, "mistral", **config)


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Checkpoint:
    return load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("prefix", "text", "longest", "across", "unseen"),
    [
        (200, 40, 112, None, None),  # as a prompt among the others
        (96, 12, 96, None, None),  # by its last tokens, as the limits have no more
        (80, 40, 80, (8, 108), None),  # a part of what is written stands in the prompt
        (60, 40, 60, None, None),  # never reached
        (60, 20, 60, None, None),  # nor is a prompt longer that leaves room for the last tokens
    ],
)
def test_texts_go_to_the_end_of_the_limits_and_cross_a_window_on_their_way(
    source: Checkpoint,
    prefix: int,
    text: int,
    longest: int,
    across: tuple[int, ...] | None,
    unseen: int | None,
) -> None:
    limits = Limits(max_prefix_tokens=prefix, max_item_tokens=text)
    drawn, missed = samples.draw_samples(source, limits)
    assert max(len(sample.prompt) for sample in drawn[""]) == longest
    found = drawn.get("beyond_window")
    assert (found and tuple(len(sample.prompt) for sample in found)) == across
    assert missed == unseen
    ends = [len(each.prompt) + len(each.text) for part in drawn.values() for each in part]
    assert max(ends) == prefix + text


def test_a_window_that_would_ask_for_too_long_a_prompt_is_told(
    source: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LONGEST", 64)
    monkeypatch.setattr(windows, "LONGEST_WINDOW", WINDOW - 1)
    drawn, unseen = samples.draw_samples(source, Limits(max_prefix_tokens=200, max_item_tokens=40))
    assert (list(drawn), unseen) == ([""], WINDOW)


def test_a_window_off_by_one_is_told_by_what_crosses_it_alone(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prompts are shorter than the window, which texts leave behind."""
    monkeypatch.setattr(Survey, "windows_within", lambda *_: {0: WINDOW + 1})
    options = {"kind": "generator", "max_prefix_tokens": 80, "max_item_tokens": 40}
    with pytest.raises(ParityError, match="alone/beyond_window") as caught:
        export(checkpoint, tmp_path / "b", **options)
    said = str(caught.value)
    for mode in ("alone", "together", "prompt_in_parts", "staggered", "scored"):
        assert f"{mode}/beyond_window" in said
        assert said.count(mode) == 1, said
