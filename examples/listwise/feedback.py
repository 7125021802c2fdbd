"""Feedback of the best items of a list to its query, on vectors: what the last layer of the list ranker does.

What the layers below make of markers is known without running them: token + SHARE · query's vector for an item, SHARE ·
that vector for the query. So the layer is trained on these, in seconds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHARE = 0.3  # of the query's vector in the states at markers


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """Where the feedback starts, chosen on the valid splits."""

    sharpness: float = 10.0  # of the cosines by which items are taken up
    weight: float = 0.6  # of what is taken up, beside the query's vector


class FeedbackLayer(nn.Module):
    """The weights of the feedback that are trained, and what they do."""

    def __init__(self, main: Tensor, heads: int, feedback: Feedback) -> None:
        """Starts with cosines along the `main` directions [directions, hidden], the same in each head."""
        super().__init__()
        self.heads, width = heads, main.shape[1]
        self.query = nn.Parameter(
            (feedback.sharpness * main).repeat(heads, 1)
        )  # [heads * directions, hidden]
        self.key = nn.Parameter(main.repeat(heads, 1))
        self.value = nn.Parameter(torch.eye(width))
        self.out = nn.Parameter(SHARE * feedback.weight * torch.eye(width))

    def forward(self, vectors: Tensor, items: Tensor, there: Tensor) -> Tensor:
        """Computes cosines of items and queries with feedback. [lists, items]

        vectors [lists, hidden] of queries, items [lists, items, hidden], there [lists, items]: False for padding
        """
        states = items + SHARE * vectors[:, None]
        units = nn.functional.normalize(states, dim=-1)
        asking = (vectors @ self.query.T).unflatten(1, (self.heads, -1))
        keys, values = ((units @ part.T).unflatten(2, (self.heads, -1)) for part in (self.key, self.value))
        logits = torch.einsum("lhd,lihd->lhi", asking, keys).masked_fill(~there[:, None], -torch.inf)
        taken = torch.einsum("lhi,lihd->lhd", logits.softmax(-1), values).flatten(1)
        asked = SHARE * vectors + taken @ self.out.T
        return torch.einsum("lid,ld->li", units, nn.functional.normalize(asked, dim=-1))
