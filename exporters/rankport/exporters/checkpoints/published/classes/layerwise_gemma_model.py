"""Body and head of a layerwise Gemma 2, for transformers' loaders: Gemma 2's, and a head whose scores are capped."""

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, Gemma2Model, Gemma2PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification

from rankport.exporters.checkpoints.published.classes.layerwise_gemma_config import LayerwiseGemmaConfig


class LayerwiseGemmaModel(Gemma2Model):  # type: ignore[no-untyped-call]
    """The body: the layers up to the one that is read, and the norm behind."""

    config_class = LayerwiseGemmaConfig


class CappedHead(nn.Linear):
    """A linear head without bias, whose logits x end as cap tanh(x / cap)."""

    def __init__(self, width: int, outputs: int, cap: float) -> None:
        """Makes a head of states of a width."""
        super().__init__(width, outputs, bias=False)
        self.cap = cap

    def forward(self, states: Tensor) -> Tensor:
        """Computes logits [..., outputs] of states [..., width]."""
        return torch.tanh(super().forward(states) / self.cap) * self.cap


class LayerwiseGemmaForSequenceClassification(  # type: ignore[no-untyped-call]
    GenericForSequenceClassification, Gemma2PreTrainedModel
):
    """The body, and that layer's head at a text's last token."""

    config_class = LayerwiseGemmaConfig

    def __init__(self, config: LayerwiseGemmaConfig) -> None:
        """Makes both, weights as transformers initializes them."""
        super().__init__(config)  # type: ignore[no-untyped-call]
        if config.final_logit_softcapping is not None:
            self.score = CappedHead(config.hidden_size, self.num_labels, config.final_logit_softcapping)


AutoModel.register(LayerwiseGemmaConfig, LayerwiseGemmaModel, exist_ok=True)
AutoModelForSequenceClassification.register(
    LayerwiseGemmaConfig, LayerwiseGemmaForSequenceClassification, exist_ok=True
)
