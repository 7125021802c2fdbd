"""Writes a checkpoint folder with new rows: every other tensor and old row as stored, bit by bit.

Shards stay as they are, tied tables stay tied, and config.json comes last: a folder without it is not finished.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.stored_tensors import INDEX
from rankport.exporters.checkpoints.own_form import save_tensors
from rankport.exporters.vocabulary.new_rows import NewRows
from rankport.exporters.vocabulary.stored_tables import StoredTables

# What else a checkpoint's reader needs: tokenizer settings, chat templates. No code, no pickles.
_KEPT = ("*_config.json", "special_tokens_map.json", "*.jinja", "LICENSE*")


@dataclass(frozen=True, slots=True)
class NewValues:
    """Values of the new rows. [new rows, hidden] each"""

    rows: NewRows
    input: Tensor
    output: Tensor | None  # None if tied


def write_checkpoint(
    source: CheckpointFolder,
    tables: StoredTables,
    values: NewValues,
    tokenizer: tokenizers.Tokenizer,
    out: Path,
) -> None:
    """Fills the folder `out`, which is made if it is not there."""
    out.mkdir(parents=True, exist_ok=True)
    for file in source.tensors.files:
        _write_shard(file, tables, values, out)
    if (source.path / INDEX).is_file():
        _write_index(source, out)
    for pattern in _KEPT:
        for file in source.path.glob(pattern):
            shutil.copyfile(file, out / file.name)
    tokenizer.save(str(out / "tokenizer.json"))
    _list_tokens(out / "tokenizer_config.json", tokenizer, values.rows)
    (out / "config.json").write_text(json.dumps(_config(source.raw, values.rows.total), indent=2) + "\n")


def _write_shard(file: Path, tables: StoredTables, values: NewValues, out: Path) -> None:
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
        metadata = stored.metadata()
        if tables.input_name in tensors:
            tensors[tables.input_name] = _extended(tensors[tables.input_name], values.input, values.rows)
        if tables.output_name in tensors:
            rows = values.input if values.output is None else values.output
            tensors[tables.output_name] = _extended(tensors[tables.output_name], rows, values.rows)
        bias = (tables.output_name or "").removesuffix("weight") + "bias"
        if bias in tensors:
            tensors[bias] = functional.pad(tensors[bias], (0, values.rows.total - len(tensors[bias])))
        save_tensors(tensors, out / file.name, metadata)


def _extended(table: Tensor, new: Tensor, rows: NewRows) -> Tensor:
    """Makes the table with its new rows; rows of neither, padding behind them, are as stored or zero."""
    result = torch.zeros(rows.total, table.shape[1], dtype=table.dtype)
    result[: len(table)] = table
    result[rows.first : rows.first + rows.count] = new.to(table.dtype)
    return result


def _write_index(source: CheckpointFolder, out: Path) -> None:
    content = json.loads((source.path / INDEX).read_text())
    size = 0
    for file in source.tensors.files:
        with safe_open(out / file.name, framework="pt") as stored:
            size += sum(stored.get_tensor(name).nbytes for name in stored.keys())  # noqa: SIM118
    content["metadata"] = {**content.get("metadata", {}), "total_size": size}
    (out / INDEX).write_text(json.dumps(content, indent=2) + "\n")


def _list_tokens(file: Path, tokenizer: tokenizers.Tokenizer, rows: NewRows) -> None:
    """Lists the new tokens where tokenizer_config.json lists all that were added.

    Classes of transformers that make their tokenizer anew, as Qwen2Tokenizer, know the tokens of such a list alone.
    """
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not isinstance(content.get("added_tokens_decoder"), dict):
        return
    added = json.loads(tokenizer.to_str())["added_tokens"]
    new = {
        str(token["id"]): {name: value for name, value in token.items() if name != "id"}
        for token in added
        if rows.first <= token["id"] < rows.first + rows.count
    }
    content["added_tokens_decoder"] = {**new, **content["added_tokens_decoder"]}
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _config(raw: dict[str, Any], total: int) -> dict[str, Any]:
    """Makes config.json of the longer vocabulary, wherever it states it."""
    if isinstance(raw.get("text_config"), dict) and "vocab_size" in raw["text_config"]:
        text = {**raw["text_config"], "vocab_size": total}
        return {**raw, "text_config": text} | ({"vocab_size": total} if "vocab_size" in raw else {})
    return {**raw, "vocab_size": total}
