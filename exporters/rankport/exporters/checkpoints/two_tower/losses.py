"""Losses of the two objectives, over the list of one request."""

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.two_tower.config import Objective


def ranking_loss(objective: Objective, logits: Tensor, gains: Tensor) -> Tensor:
    """Computes the loss of one request's logits [items] against gains [items], 0 or more.

    listwise: cross entropy of softmax(logits) with gains / sum(gains), 0 of a list without a gain.
    pointwise: mean over items of the binary cross entropy of sigmoid(logit) with gain > 0.
    """
    if objective == "pointwise":
        return nn.functional.binary_cross_entropy_with_logits(logits, (gains > 0).to(logits.dtype))
    shares = gains / gains.sum().clamp(min=torch.finfo(gains.dtype).tiny)
    return -(shares * torch.log_softmax(logits, dim=0)).sum()
