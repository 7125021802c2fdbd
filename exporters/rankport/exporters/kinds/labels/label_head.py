"""The head that answers, taken out of a model: its classification head, or rows of its LM head."""

from dataclasses import dataclass

import torch
from torch import nn

from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Labels


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Logits that answer a request: rows of the LM head, or all outputs of a classification head."""

    source: str  # "lm_head" | "classification_head"
    ids: tuple[int, ...]


def readout_of(labels: Labels) -> ReadOut:
    """Gives the read-out as the exporter's modules take it."""
    return ReadOut(labels.source, tuple(labels.ids))


def label_head(model: nn.Module, readout: ReadOut) -> nn.Module:
    """Gives the classification head, or makes one of the LM head's label rows. Raises CheckpointError without one."""
    if readout.source == "classification_head":
        head = getattr(model, "score", None)
        if not isinstance(head, nn.Module):
            raise CheckpointError(
                f"{type(model).__name__} has no classification head named `score`: it is no decoder, whose prefix "
                "could be shared"
            )
        return head
    full = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(full, nn.Linear | QuantizedLinear):
        raise CheckpointError(
            f"{type(model).__name__} has an LM head of type {type(full).__name__}, expected Linear"
        )
    rows = torch.tensor(readout.ids)
    bias = None if full.bias is None else full.bias.detach()[rows].clone()
    if isinstance(full, QuantizedLinear):
        return QuantizedLinear(full.quantized.rows(rows), bias, full.activation)
    head = nn.Linear(full.in_features, len(readout.ids), bias=bias is not None)
    head.weight = nn.Parameter(full.weight.detach()[rows].clone(), requires_grad=False)
    if bias is not None:
        head.bias = nn.Parameter(bias, requires_grad=False)
    return head
