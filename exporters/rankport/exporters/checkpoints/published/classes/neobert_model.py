"""Body and classifier of NeoBERT, for transformers' loaders: EuroBERT's, with a tanh in the head."""

from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    EuroBertForSequenceClassification,
    EuroBertModel,
)

from rankport.exporters.checkpoints.published.classes.neobert_config import NeoBertConfig


class NeoBertModel(EuroBertModel):  # type: ignore[no-untyped-call]
    """The body."""

    config_class = NeoBertConfig


class NeoBertForSequenceClassification(EuroBertForSequenceClassification):  # type: ignore[no-untyped-call]
    """The body, and two linear layers at its first state, a tanh between them."""

    config_class = NeoBertConfig

    def __init__(self, config: NeoBertConfig) -> None:
        """Makes both, weights as transformers initializes them."""
        super().__init__(config)
        self.activation = nn.Tanh()  # type: ignore[assignment]


AutoModel.register(NeoBertConfig, NeoBertModel, exist_ok=True)
AutoModelForSequenceClassification.register(NeoBertConfig, NeoBertForSequenceClassification, exist_ok=True)
