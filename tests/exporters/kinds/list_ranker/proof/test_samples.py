"""The proof of a list ranker crosses windows beyond its ordinary blocks, and has no block that fits no machine."""

from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.list_ranker import graphs
from rankport.exporters.kinds.list_ranker.proof import samples
from rankport.exporters.proof import windows
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.prompt.lists.list_prompt import ListPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.effort import full_effort
from support.lists import drafts
from support.lists.rankers import jina_checkpoint

WINDOW = 680
OPTIONS: dict[str, Any] = {
    "kind": "list-ranker",
    "max_list_items": 4,
    "max_list_tokens": 1024,
    "max_item_tokens": 150,
    "max_prefix_tokens": 12,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jina_checkpoint(
        tmp_path_factory.mktemp("jina") / "c",
        layer_types=["sliding_attention"],
        sliding_window=WINDOW,
        use_sliding_window=True,
    )


def test_a_window_off_by_one_is_told_by_what_crosses_it_alone(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def traced(module: graphs.ListGraph, *arguments: Any) -> Any:
        config: Any = module.model.config
        monkeypatch.setattr(config, "sliding_window", WINDOW + 1)
        try:
            return plain(module, *arguments)
        finally:
            monkeypatch.setattr(config, "sliding_window", WINDOW)

    plain = graphs.trace
    monkeypatch.setattr(graphs, "trace", traced)
    with pytest.raises(ParityError, match="beyond_window") as caught:
        export(checkpoint, tmp_path / "b", **OPTIONS)
    said = str(caught.value)
    for mode in ("one_item", "one_block", "several_blocks", "truncation", "token_ids"):
        assert mode not in said


@full_effort
def test_a_window_that_would_ask_for_too_long_a_block_is_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LONGEST_WINDOW", WINDOW - 1)
    parity = export(checkpoint, tmp_path / "b", **OPTIONS).manifest.parity
    assert parity is not None
    assert str(parity.reference).endswith("; not beyond the window of 680 tokens, which no sample crosses")
    assert "beyond_window" not in {mode.mode for mode in parity.modes}


@pytest.mark.parametrize(("item", "least", "most"), [(3_000, 3_000, 4_200), (30_000, 100, 1_000)])
def test_no_item_is_cut_at_a_limit_that_attention_would_fit_no_machine_for(
    item: int, least: int, most: int
) -> None:
    lists = drafts.lists_of(max_tokens=40_960)
    limits = Limits(max_prefix_tokens=500, max_item_tokens=item)
    manifest: Any = drafts.draft(lists, limits=limits)
    tokenizer = Tokenizer(drafts.raw_tokenizer())
    drawn, prompt = samples.draw_samples(manifest, tokenizer), ListPrompt(manifest, tokenizer)
    assert ("truncation" in [sample.mode for sample in drawn]) == (item == least)
    lengths = [
        prompt.encode(sample.fields, ItemColumns.of(sample.items), sample.truncation).runs.lengths.max()
        for sample in drawn
    ]
    assert least <= max(lengths) <= most
