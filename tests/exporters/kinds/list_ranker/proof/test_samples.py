"""The proof of a list ranker crosses a window which its ordinary blocks do not reach the end of."""

from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.list_ranker import graphs
from rankport.exporters.proof import windows
from rankport.protos.errors import ParityError
from support.effort import full_effort
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
