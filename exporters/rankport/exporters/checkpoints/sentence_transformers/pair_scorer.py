"""`PairScorer`: a body whose pooled states end in scores of a pair, as a class with a head of labels."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from rankport.exporters.checkpoints.sentence_transformers.pair_head import pair_head, pair_outputs
from rankport.exporters.checkpoints.sentence_transformers.pooled_states import PooledStates
from rankport.runtime.bundle.manifest import Embedding


class PairScorer(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The body, its states pooled over a pair, and the modules behind: logits, before any activation of scores."""

    base_model_prefix = "body"

    def __init__(
        self, body: PreTrainedModel, pooled: PooledStates, head: nn.Sequential, outputs: int
    ) -> None:
        """Takes the parts over, and has the body's config count the outputs."""
        super().__init__(body.config)
        self.config.num_labels = outputs
        self.body, self.pooled, self.head = body, pooled, head

    def get_input_embeddings(self) -> nn.Module:
        """Gives the body's table."""
        return self.body.get_input_embeddings()

    def get_output_embeddings(self) -> None:
        """Gives none: no token is written."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
        """Computes logits [items, labels] of pairs [items, tokens], padded at the end."""
        return self._logits(input_ids, attention_mask)

    def _logits(
        self, input_ids: Tensor, attention_mask: Tensor | None, **types: Tensor
    ) -> SequenceClassifierOutput:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.body(input_ids=input_ids, attention_mask=mask, **types).last_hidden_state
        return SequenceClassifierOutput(logits=self.head(self.pooled(states, mask)[:, 0]))


class TypedPairScorer(PairScorer):  # type: ignore[no-untyped-call]
    """A scorer whose body tells the two texts of a pair by token types."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Computes logits [items, labels] of pairs [items, tokens], padded at the end."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self._logits(input_ids, attention_mask, **types)


def pair_scorer(body: PreTrainedModel, path: Path, width: int, *, typed: bool) -> PairScorer:
    """Puts the head of a CrossEncoder's folder on its body, whose states have a width; `typed`: it takes token types.

    Raises CheckpointError for a head that cannot be exported.
    """
    settings, head = pair_head(path, width, body.config.get_text_config().hidden_size)
    first, *others = settings.modes
    form = Embedding(
        tokens=1,
        hidden_size=width * len(settings.modes),
        dtype="float32",
        pooling=first,
        normalize=False,
        further_poolings=others,
    )
    kind = TypedPairScorer if typed else PairScorer
    scorer = kind(body, PooledStates(form), head, pair_outputs(path))
    scorer.eval().requires_grad_(False)  # type: ignore[no-untyped-call]
    return scorer
