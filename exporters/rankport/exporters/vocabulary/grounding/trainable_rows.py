"""The new rows as the only parameters of a frozen model, without a copy of its tables.

Each parameter shares its memory with the rows of the table that it stands for, so a step of the optimizer is a step of
the table; gradients go to the parameter alone. Tied tables have one parameter, which serves input and output.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankport.exporters.vocabulary.diagnostics.spectrum import blocks
from rankport.exporters.vocabulary.new_rows import NewRows
from rankport.protos.errors import CheckpointError


class RowsEmbedding(nn.Module):
    """The model's embedding, with gradients for the new rows only."""

    def __init__(self, table: nn.Embedding, rows: NewRows, parameter: nn.Parameter) -> None:
        super().__init__()
        self.rows = rows
        self.table = table
        # The table's own class, which may scale what it looks up, over the new rows.
        self.new = copy.copy(table)
        self.new._parameters = {"weight": parameter}
        self.new.padding_idx = None

    def forward(self, ids: Tensor) -> Tensor:
        """Maps ids [...] to embeddings [..., hidden]."""
        local = ids - self.rows.first
        inside = (local >= 0) & (local < self.rows.count)
        new: Tensor = self.new(local.clamp(0, self.rows.count - 1))
        return torch.where(inside[..., None], new, self.table(ids))


class RowsHead(nn.Module):
    """The model's LM head at the positions that are predicted, with gradients for the new rows only."""

    def __init__(self, head: nn.Linear, rows: NewRows, parameter: nn.Parameter) -> None:
        super().__init__()
        self.head = head
        self.rows = rows
        self.new = parameter
        self.positions: Tensor | None = None  # [batch, length] bool, set before each pass

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps hidden states [batch, length, hidden] to logits [1, predicted positions, vocabulary]."""
        assert self.positions is not None
        chosen = hidden[self.positions]
        end = self.rows.first + self.rows.count
        weight = self.head.weight.detach()
        logits = [chosen @ weight[: self.rows.first].T, chosen @ self.new.T, chosen @ weight[end:].T]
        joined = torch.cat(logits, -1)
        return (joined if self.head.bias is None else joined + self.head.bias.detach())[None]


@dataclass(frozen=True, slots=True)
class TrainableRows:
    """A frozen model and its new rows."""

    model: nn.Module
    rows: NewRows
    input: nn.Parameter  # [new rows, hidden]
    output: nn.Parameter | None  # [new rows, hidden], None if tied
    head: RowsHead
    scales: dict[str, float]  # of each parameter: root mean square of the pretrained values of its table

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that are trained, by their names in the saved state."""
        return {"input": self.input} | ({} if self.output is None else {"output": self.output})

    def log_probabilities(self, ids: Tensor, mask: Tensor, predicted: Tensor) -> Tensor:
        """Computes the log-probability of each predicted token of a batch. [predicted tokens], row by row

        ids [batch, length] int64 padded on the right, mask [batch, length] 1 where there is a token, predicted
        [batch, length] bool: never the first position. Over the whole vocabulary.
        """
        before = torch.zeros_like(predicted)
        before[:, :-1] = predicted[:, 1:]  # a token is predicted from the position before it
        self.head.positions = before
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
        return -functional.cross_entropy(logits.float(), ids[predicted], reduction="none")


@contextmanager
def trainable_rows(model: nn.Module, rows: NewRows) -> Iterator[TrainableRows]:
    """Has the model, while open, look up tables through trainable new rows. Raises CheckpointError without a head."""
    table = model.get_input_embeddings()  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(table, nn.Embedding) or not isinstance(head, nn.Linear):
        raise CheckpointError(
            f"{type(model).__name__} has no LM head and embedding table of the usual form: only a causal LM is grounded"
        )
    model.requires_grad_(False)
    tied = head.weight is table.weight
    entry = _parameter(table.weight, rows)
    exit_ = None if tied else _parameter(head.weight, rows)
    swapped = RowsHead(head, rows, entry if exit_ is None else exit_)
    model.set_input_embeddings(RowsEmbedding(table, rows, entry))  # type: ignore[operator]
    model.set_output_embeddings(swapped)  # type: ignore[operator]
    try:
        scales = {"input": _root_mean_square(table.weight, rows)}
        if exit_ is not None:
            scales["output"] = _root_mean_square(head.weight, rows)
        yield TrainableRows(model, rows, entry, exit_, swapped, scales)
    finally:
        model.set_input_embeddings(table)  # type: ignore[operator]
        model.set_output_embeddings(head)  # type: ignore[operator]


def _parameter(table: Tensor, rows: NewRows) -> nn.Parameter:
    return nn.Parameter(table.detach()[rows.first : rows.first + rows.count])


def _root_mean_square(table: Tensor, rows: NewRows) -> float:
    old = table.detach()[: rows.first]
    return math.sqrt(
        sum(float(block.square().sum(dtype=torch.float64)) for block in blocks(old)) / old.numel()
    )
