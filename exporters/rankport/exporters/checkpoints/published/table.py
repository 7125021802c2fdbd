"""The published layouts: one explicit table, first match wins."""

from collections.abc import Collection

from rankport.exporters.checkpoints.published import (
    gemma_lightweight,
    gte,
    jina,
    jina_bert,
    lfm2_both_ways,
    minicpm,
    neobert,
    nomic,
    nv_embed,
    qwen3_both_ways,
)
from rankport.exporters.checkpoints.published.layout import Fields, PublishedLayout

LAYOUTS: tuple[PublishedLayout, ...] = (
    gte.LAYOUT,
    jina.LAYOUT,
    nomic.LAYOUT,
    minicpm.LAYOUT,
    gemma_lightweight.LAYOUT,
    lfm2_both_ways.LAYOUT,
    neobert.LAYOUT,
    nv_embed.LAYOUT,
    *jina_bert.LAYOUTS,
    *qwen3_both_ways.LAYOUTS,
)


def layout_of(raw: Fields, tensors: Collection[str]) -> PublishedLayout | None:
    """Finds the layout of a folder, by its config.json and the names of its tensors; None of one that has none."""
    return next((layout for layout in LAYOUTS if layout.matches(raw, tensors)), None)
