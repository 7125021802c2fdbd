"""Models that cannot be traced are refused in one line, and torch's own account of them is not printed."""

import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.trace import trace
from rankport.protos.errors import CheckpointError


class Branching(nn.Module):
    """Goes one way or the other by a value of its input."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids * 2 if bool((ids > 0).any()) else ids


class Mismatched(nn.Module):
    """Multiplies matrices whose widths differ."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids.float()[:, :4] @ torch.ones(5, 2)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(Branching(), "Could not guard on data-dependent expression"), (Mismatched(), "same reduction dim")],
)
def test_a_refusal_is_one_line_and_nothing_is_printed(
    module: nn.Module, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        CheckpointError, match=f"^{type(module).__name__} cannot be traced with dynamic sizes, .*{reason}"
    ) as caught:
        trace(module, {"ids": torch.ones(3, 7, dtype=torch.int64)}, {"ids": ["items", "tokens"]}, ["out"])
    assert "\n" not in str(caught.value)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
