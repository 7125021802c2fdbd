"""Complex numbers of a trace are pairs of real ones, and rotate as complex ones do."""

import torch

from rankport.exporters.graphs.complex_pairs import complex_as_pairs


def rotated(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    turns = torch.polar(torch.full_like(angles, 1.5), angles) * 0.5
    pairs = torch.view_as_complex(states.reshape(*states.shape[:-1], -1, 2))
    by_head = pairs * turns[:, :, None, :]
    again = by_head * turns.unsqueeze(2).to(turns.device)
    return torch.view_as_real(again).flatten(3)


def test_a_rotation_in_pairs_is_that_of_complex_numbers() -> None:
    torch.manual_seed(0)
    states, angles = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4)
    expected = rotated(states, angles)
    with complex_as_pairs():
        actual = rotated(states, angles)
    torch.testing.assert_close(actual, expected)
    assert torch.polar(torch.ones(1), torch.zeros(1)).is_complex()
