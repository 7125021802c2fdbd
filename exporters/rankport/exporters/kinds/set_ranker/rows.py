"""Tables of ids as a bundle keeps them: rounded, and as files."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.sections.sets import RowType
from rankport.runtime.kinds.set_ranker.tables import row_file_bytes

_INT8_MOST = 127
_MOST: dict[RowType, float] = {dtype: torch.finfo(torch.float32).max for dtype in ("float32", "int8")} | {
    "float16": torch.finfo(torch.float16).max
}


def table_of(rows: Tensor) -> nn.Embedding:
    """Makes a table of rows [rows, width], to be looked up and not trained."""
    return nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows.detach().float(), _freeze=True)


@dataclass(frozen=True, slots=True)
class RoundedRows:
    """Rows of a table in a type, and the values that they stand for."""

    stored: NDArray[np.generic]  # [rows, width]
    scales: NDArray[np.float32] | None  # [rows], of int8
    values: Tensor  # [rows, width] float32

    def file(self) -> bytes:
        """Writes the file of a bundle."""
        return row_file_bytes(self.stored, self.scales)


def check_rows(name: str, weight: Tensor, dtype: RowType) -> None:
    """Raises CheckpointError for a table with a value that is no number, or beyond its type: no proof asks all rows."""
    weight = weight.detach().float()
    least, most = weight.aminmax()  # NaN where there is one
    if -_MOST[dtype] <= least and most <= _MOST[dtype]:
        return
    row, column = (~(weight.abs() <= _MOST[dtype])).nonzero()[0].tolist()
    value = float(weight[row, column])
    remedy = (
        f"beyond {dtype}, which ends at {_MOST[dtype]:g}: leave --table-dtype out, or say --table-dtype int8"
        if math.isfinite(value)
        else "which is no number to score by: train again, or mend the row"
    )
    raise CheckpointError(f"row {row} of table {name!r} holds {value:g}, {remedy}")


def rounded_rows(weight: Tensor, dtype: RowType) -> RoundedRows:
    """Rounds rows [rows, width]: to float16, or to int8 by the largest value of each row."""
    weight = weight.detach().float()
    if dtype == "float32":
        return RoundedRows(weight.numpy(), None, weight)
    if dtype == "float16":
        half = weight.half()
        return RoundedRows(half.numpy(), None, half.float())
    scales = weight.abs().amax(dim=1) / _INT8_MOST
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    codes = torch.round(weight / scales[:, None]).clamp(-_INT8_MOST, _INT8_MOST)
    return RoundedRows(codes.to(torch.int8).numpy(), scales.numpy(), codes * scales[:, None])
