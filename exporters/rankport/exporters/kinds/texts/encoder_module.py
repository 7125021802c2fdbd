"""An item encoder checkpoint as one function: padded token ids -> embedding tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.dense import DenseWeights, dense_weights
from rankport.exporters.checkpoints.sentence_transformers.dense_module import dense_stack
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.checkpoints.sentence_transformers.pooled_states import PooledStates
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Embedding


class EncoderModule(nn.Module):
    """(input_ids [items, tokens], attention_mask [items, tokens], both int64, padded at the end) -> [items, k, hidden].

    The final hidden states are pooled as `pooling.PooledStates` says, poolings joined; then dense layers;
    x / max(|x|, 1e-12) per token if `normalize`; and the first `hidden_size` values.
    """

    def __init__(self, model: nn.Module, embedding: Embedding, dense: Sequence[DenseWeights] = ()) -> None:
        """Takes the model over; `dense` holds the weights of `embedding.dense`, in order."""
        super().__init__()
        self.model = model
        self.pooling = PooledStates(embedding)
        self.dense = dense_stack(embedding.dense, dense)
        self.tokens = embedding.tokens
        self.hidden_size = embedding.hidden_size
        self.normalize = embedding.normalize
        self.cuts = embedding.cut_from is not None
        self.dtype = torch.float16 if embedding.dtype == "float16" else torch.float32

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Encodes padded texts. [items, k, hidden] in the output dtype"""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        pooled: Tensor = self.dense(self.pooling(hidden, attention_mask))
        if self.normalize:
            pooled = nn.functional.normalize(pooled, dim=-1, eps=1e-12)
        if self.cuts:
            pooled = pooled[:, :, : self.hidden_size]
        return pooled.to(self.dtype)


def encoder_module(source: Checkpoint, embedding: Embedding) -> EncoderModule:
    """Makes the module of a checkpoint, with the dense layers of its folder."""
    return EncoderModule(source.model, embedding, stored_dense(source, embedding))


def stored_dense(source: Checkpoint, form: Embedding) -> list[DenseWeights]:
    """Reads the weights of a form's dense layers. Raises CheckpointError as `dense_folders`."""
    folders = dense_folders(source, form)
    return [dense_weights(place, layer) for place, layer in zip(folders, form.dense, strict=True)]


def dense_folders(source: Checkpoint, form: Embedding) -> Sequence[Path]:
    """Finds where the weights of a form's dense layers lie. Raises CheckpointError if the folder has others."""
    folder = read_encoder_folder(source.path)
    layers = () if folder is None else folder.dense
    if [layer for _, layer in layers] != form.dense:
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} has other Dense modules than the bundle states"
        )
    return [place for place, _ in layers]
