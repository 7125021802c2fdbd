"""The embedding tables of a checkpoint folder, memory-mapped: no model is built and nothing is copied.

Owns which stored tensors they are, and whether the output rows are rows of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

# What the families call them: most; GPT-2; GPT-NeoX; BERT, BLOOM.
_INPUT = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_OUTPUT = ("lm_head.weight", "embed_out.weight")


@dataclass(frozen=True, slots=True)
class StoredTables:
    """Input table and, if it is not the same one, output table."""

    input_name: str
    output_name: str | None  # also of a tied head that is stored a second time
    tied: bool  # the output rows are the input rows
    input: Tensor  # [rows, hidden] in its stored dtype
    output: Tensor | None  # [rows, hidden], None if tied or without an LM head


def open_tables(path: Path) -> StoredTables:
    """Reads nothing yet but the files' headers. Raises CheckpointError naming what is missing or of another shape."""
    folder = CheckpointFolder.open(path)
    return find_tables(folder)


def find_tables(folder: CheckpointFolder) -> StoredTables:
    """Finds the tables of an open folder. Raises CheckpointError as `open_tables` does."""
    stored = folder.tensors
    input_name, output_name = _named(stored, _INPUT), _named(stored, _OUTPUT)
    if input_name is None:
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} holds no embedding table (a tensor named ...{', ...'.join(_INPUT)})"
        )
    tied = output_name is None or _says_tied(folder.raw)
    table = _table(stored, input_name)
    output = None if tied or output_name is None else _table(stored, output_name)
    if output is not None and output.shape[0] != table.shape[0]:
        raise CheckpointError(
            f"tensor {output_name!r} has {output.shape[0]} rows and {input_name!r} has {table.shape[0]}: "
            "the vocabulary was extended in one of them only"
        )
    return StoredTables(input_name, output_name, tied, table, output)


def _named(stored: StoredTensors, suffixes: tuple[str, ...]) -> str | None:
    names = [name for name in stored if name.endswith(suffixes)]
    if len(names) > 1:
        raise CheckpointError(f"tensors {names[0]!r} and {names[1]!r} may both be the embedding table")
    return names[0] if names else None


def _table(stored: StoredTensors, name: str) -> Tensor:
    if len(stored.shape(name)) != 2 or not stored.dtype(name).is_floating_point:
        raise CheckpointError(
            f"tensor {name!r} is {stored.dtype(name)} {list(stored.shape(name))}, an embedding table is "
            "floating-point [rows, hidden]: audit the original of a quantized one"
        )
    return stored.read(name)


def _says_tied(raw: dict[str, Any]) -> bool:
    text = raw.get("text_config")
    return bool(raw.get("tie_word_embeddings", isinstance(text, dict) and text.get("tie_word_embeddings")))
