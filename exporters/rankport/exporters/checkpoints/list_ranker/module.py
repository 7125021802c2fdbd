"""`ListRankerModel`: the reference module. It trains, saves and loads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.own_form import write_own_form
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Activation, DenseLayer

_ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = MappingProxyType(
    {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid}
)


class ListRankerModel(nn.Module):
    """A decoder body and the projector behind its states at markers."""

    config: PreTrainedConfig  # of the body
    base_model_prefix = "model"  # in names of stored tensors, where a body was saved with a head

    def __init__(self, form: ListRankerConfig, body: nn.Module) -> None:
        """Takes a body over; the projector's weights are drawn at random.

        Raises CheckpointError where the projector does not take the body's states.
        """
        super().__init__()
        self.form = form
        self.model = body
        self.config = body.config  # type: ignore[assignment]
        self.projector = projector_of(form.projector)
        hidden = int(self.config.get_text_config().hidden_size)
        if form.projector and form.projector[0].in_features != hidden:
            raise CheckpointError(
                f"projector[0].in_features: is {form.projector[0].in_features}, states of the body are {hidden} wide"
            )

    def forward(self, input_ids: Tensor, marks: Tensor, inputs_embeds: Tensor | None = None) -> Tensor:
        """Computes what is read at markers of prompts that are padded at the end.

        input_ids [lists, tokens] and marks [lists, marks], places of markers, are int64; `inputs_embeds`
        [lists, tokens, hidden] stands for the tokens where it is given. Returns [lists, marks, width].
        """
        given = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        return self.read(self.model(**given, use_cache=False).last_hidden_state, marks)

    def read(self, hidden: Tensor, marks: Tensor) -> Tensor:
        """Computes what is read at markers of the body's last states [lists, tokens, hidden]; as `forward`."""
        read = torch.gather(hidden, 1, marks[:, :, None].expand(-1, -1, hidden.shape[2]))
        vectors: Tensor = self.projector(read)
        return vectors.to(torch.float32)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint but for its tokenizer: config.json and model.safetensors."""
        write_own_form(folder, self.form, self)

    def get_input_embeddings(self) -> nn.Module:
        """Gives the table of the body's tokens."""
        table: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return table

    def get_output_embeddings(self) -> None:
        """Has none: it makes no tokens."""

    def tie_weights(self) -> None:
        """Does nothing: nothing is tied."""


def projector_of(layers: list[DenseLayer]) -> nn.Sequential:
    """Makes linear layers, each with its activation behind it. [..., in] -> [..., out]

    Raises CheckpointError for a layer that adds its input, which no published projector does.
    """
    parts: list[nn.Module] = []
    for index, layer in enumerate(layers):
        if layer.residual:
            raise CheckpointError(
                f"projector[{index}].residual: is not supported in a projector: leave it out"
            )
        parts.append(nn.Linear(layer.in_features, layer.out_features, bias=layer.bias))
        if layer.activation != "identity":
            parts.append(_ACTIVATIONS[layer.activation]())
    return nn.Sequential(*parts)
