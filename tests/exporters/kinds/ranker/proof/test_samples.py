"""Samples cross windows of attention that end within the limits, one at a cost that ordinary machines bear."""

import pytest

from rankport.exporters.kinds.ranker.proof.samples import (
    BEYOND_WINDOW,
    are_sampled,
    sample_requests,
    window_to_cross,
)
from rankport.runtime.bundle.manifest import Limits


@pytest.mark.parametrize(
    ("prefix", "item", "windows", "crossed", "unseen"),
    [
        (1024, 1024, [512], None, None),
        (4096, 256, [4096], 4096, None),
        (4096, 256, [1024, 512], None, None),  # which ordinary samples cross
        (4096, 4096, [2048], 2048, None),  # by its items alone, not by its prefix
        (8000, 100, [4096, 6000], 4096, 6000),
        (8000, 100, [6000], None, 6000),
        (3000, 100, [3100], None, None),  # as long as the limits: nothing is hidden
        (3000, 100, [], None, None),
    ],
)
def test_the_shortest_window_that_no_sample_crosses_is_found(
    prefix: int, item: int, windows: list[int], crossed: int | None, unseen: int | None
) -> None:
    limits = Limits(max_prefix_tokens=prefix, max_item_tokens=item)
    assert window_to_cross(windows, limits) == (crossed, unseen)
    assert not are_sampled(limits) or crossed is None


@pytest.mark.parametrize(
    ("prefix", "item", "lengths"), [(5000, 40, (4104, 8)), (4090, 40, (4090, 14)), (4096, 2, (4096, 2))]
)
def test_a_prefix_leaves_the_window_behind_or_else_its_item(
    prefix: int, item: int, lengths: tuple[int, int]
) -> None:
    limits = Limits(max_prefix_tokens=prefix, max_item_tokens=item)
    requests = sample_requests(101, 32, limits, None, ends=(2,), window=4096)
    short, long = [request for request in requests if request.form == BEYOND_WINDOW]
    assert (len(long.prefix.ids), len(long.items[0].ids)) == lengths
    assert sum(lengths) > 4096
    assert len(short.prefix.ids) == 9
    assert BEYOND_WINDOW not in {request.form for request in sample_requests(101, 32, limits, None)}
