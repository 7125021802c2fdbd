"""Body and classifier of a Llama that reads both ways, for transformers' loaders."""

import torch
from torch import Tensor, nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from rankport.exporters.checkpoints.bidirectional_llama.config import LlamaBidirectionalConfig


class LlamaBidirectionalModel(LlamaModel):  # type: ignore[no-untyped-call]
    """The body: transformers' own, which masks nothing but padding where `is_causal` is false."""

    config_class = LlamaBidirectionalConfig


class LlamaBidirectionalForSequenceClassification(LlamaPreTrainedModel):
    """The body, its states pooled over a text, a linear head without bias, and a temperature that divides logits."""

    config_class = LlamaBidirectionalConfig

    def __init__(self, config: LlamaBidirectionalConfig) -> None:
        """Makes both parts, weights as transformers initializes them."""
        super().__init__(config)
        self.num_labels = int(config.num_labels or 0)
        self.model = LlamaBidirectionalModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Computes logits [items, labels] of texts [items, tokens], padded at either end."""
        states = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False,
        ).last_hidden_state
        present = torch.ones_like(states[:, :, 0]) if attention_mask is None else attention_mask
        pooled = _POOLS[self.config.pooling](states, present.to(states.dtype))
        return SequenceClassifierOutput(logits=self.score(pooled) / self.config.temperature)


def _average(states: Tensor, present: Tensor) -> Tensor:
    return (states * present[:, :, None]).sum(1) / present.sum(1, keepdim=True)


def _first(states: Tensor, present: Tensor) -> Tensor:
    return _at(states, (present.cumsum(1) == 1) & (present == 1))


def _last(states: Tensor, present: Tensor) -> Tensor:
    return _at(states, (present.cumsum(1) == present.sum(1, keepdim=True)) & (present == 1))


def _at(states: Tensor, place: Tensor) -> Tensor:
    """Takes the state at the one place of each text: [items, width]."""
    return torch.where(place[:, :, None], states, 0.0).sum(1)


_POOLS = {"avg": _average, "cls": _first, "last": _last}
