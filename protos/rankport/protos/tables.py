"""Columns of results as tables of pandas and Arrow. Either library is imported when its table is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal

from numpy.typing import NDArray

from rankport.protos.installed.extras import extras_named

ColumnType = Literal["integer", "optional integer", "number", "numbers", "text"]
"""Type of a column's values: `numbers` is a list a row, a missing number NaN, a missing integer None."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a table."""

    type: ColumnType
    values: Sequence[Any] | NDArray[Any]  # [rows]


TableColumns = Mapping[str, TableColumn]
"""Columns by name, all of one length."""

_PANDAS: Mapping[ColumnType, str] = MappingProxyType(
    {
        "integer": "int64",
        "optional integer": "Int64",
        "number": "float32",
        "numbers": "object",
        "text": "str",
    }
)


def pandas_table(columns: TableColumns) -> Any:
    """Makes a `pandas.DataFrame`. Raises `InvalidRequest` where pandas is not installed."""
    pandas = _module("pandas", "to_pandas()")
    return pandas.DataFrame(
        {
            name: pandas.Series(list(column.values), dtype=_PANDAS[column.type])
            for name, column in columns.items()
        }
    )


def arrow_table(columns: TableColumns) -> Any:
    """Makes a `pyarrow.Table`; what is missing is null. Raises `InvalidRequest` where pyarrow is not installed."""
    pyarrow = _module("pyarrow", "to_arrow()")
    types: Mapping[ColumnType, Any] = {
        "integer": pyarrow.int64(),
        "optional integer": pyarrow.int64(),
        "number": pyarrow.float32(),
        "numbers": pyarrow.list_(pyarrow.float32()),
        "text": pyarrow.string(),
    }
    return pyarrow.table(
        {
            name: pyarrow.array(column.values, types[column.type], from_pandas=True)
            for name, column in columns.items()
        }
    )


def _module(name: str, use: str) -> Any:
    with extras_named(use, "tables"):
        return import_module(name)
