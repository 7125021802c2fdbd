"""Tables of embeddings in int8, a scale a row: columns that would set the step of every row stay in fp32."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.linear import QuantizedEmbedding
from rankport.exporters.quantization.loud import LoudColumns
from rankport.exporters.quantization.rounding import int8_rows

LOUD_TABLE = "loud columns of the table of embeddings"
_CHUNK = 8192
_MOST = 4
_LOUD = 8.0
"""Times a loud column's root mean square is above the median column's, at least."""


def rounded_table(table: nn.Embedding, *, finds_loud: bool = True) -> QuantizedEmbedding:
    """Rounds a table but for its loudest columns, where they are far above the others."""
    rows, width = table.num_embeddings, table.embedding_dim
    places = _loud_columns(table) if finds_loud else torch.empty(0, dtype=torch.int64)
    loud = LoudColumns(places, torch.empty(rows, len(places)))
    quiet = loud.quiet(width)
    codes, scales = torch.empty(rows, width, dtype=torch.int8), torch.empty(rows)
    for ids, values in _chunks(table):
        codes[ids], scales[ids] = int8_rows(values * quiet)
        loud.weight[ids] = values[:, places]
    return QuantizedEmbedding(codes, scales, loud if len(places) else None)


def _loud_columns(table: nn.Embedding) -> Tensor:
    squares = sum(values.square().sum(dim=0) for _, values in _chunks(table))
    assert isinstance(squares, Tensor)
    largest, places = squares.sqrt().topk(min(_MOST, len(squares)))
    return places[largest > _LOUD * squares.sqrt().median()].sort().values


def _chunks(table: nn.Embedding) -> Iterator[tuple[Tensor, Tensor]]:
    """Gives ids and their rows in fp32, through the module: some scale their rows."""
    for start in range(0, table.num_embeddings, _CHUNK):
        ids = torch.arange(start, min(start + _CHUNK, table.num_embeddings))
        yield ids, table(ids).to(torch.float32)
