"""A tagger checkpoint as one function: padded token ids -> a row of logits a token."""

from torch import Tensor, nn


class TaggerModule(nn.Module):
    """(input_ids [items, tokens], attention_mask [items, tokens], int64, padded at the end) -> [items, tokens, labels].

    The forward of the checkpoint's own class: transformers gives token types of one text by itself.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes the model over."""
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Labels padded texts; rows of padding mean nothing."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits
