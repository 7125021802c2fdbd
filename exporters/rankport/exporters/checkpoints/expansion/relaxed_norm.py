"""The norm of an expanded layer: an RMS norm that may let a share of its input through."""

import torch
from torch import Tensor, nn

DYNAMIC = -1.0


class RelaxedNorm(nn.Module):
    """out = a x + (1 - a) RMSNorm(x) for states [..., hidden], with the share a by `interpolation_norm_alpha`:

        -1    a = clamp(2 sigmoid(interpolation_factor) - 1, 0, 1), the factor being one stored number a norm
        else  a = alpha

    RMSNorm(x) = weight * x / sqrt(mean(x^2) + eps), arXiv 1910.07467. Alpha 0 needs no RelaxedNorm.
    """

    def __init__(self, weight: nn.Parameter, eps: float, alpha: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps
        self.alpha = alpha
        if alpha == DYNAMIC:
            self.interpolation_factor = nn.Parameter(torch.empty(1), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        """Normalizes states; the shape stays."""
        # Written as transformers writes it: the graph passes and runtimes know this form and fuse it.
        normal = states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.eps)
        share = self._share()
        return share * states + (1 - share) * (self.weight * normal)

    def _share(self) -> Tensor | float:
        if self.alpha != DYNAMIC:
            return self.alpha
        return (2 * torch.sigmoid(self.interpolation_factor) - 1).clamp(0, 1)
