"""A checkpoint that ends in a classification head as one function: padded token ids -> logits."""

import torch
from torch import Tensor, nn


class HeadModule(nn.Module):
    """(input_ids, attention_mask and, of some, token_type_ids: [items, tokens] int64) -> [items, labels] float32."""

    def __init__(self, model: nn.Module) -> None:
        """Takes over a model of transformers that ends in a classification head."""
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Computes the logits of padded texts."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits.to(torch.float32)
