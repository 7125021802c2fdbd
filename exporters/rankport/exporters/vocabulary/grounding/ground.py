"""`ground`: a causal LM in, the same model with grounded new rows out.

Owns the order of the steps and ground.json. Resuming continues the very run that was killed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.disk_refusals import refusals_told
from rankport.exporters.vocabulary.diagnostics.diagnose import TableDiagnostics, diagnose
from rankport.exporters.vocabulary.grounding.extended_checkpoint import NewValues, write_checkpoint
from rankport.exporters.vocabulary.grounding.extension import (
    ExtendedVocabulary,
    add_tokens,
    existing_tokens,
    extend_model,
)
from rankport.exporters.vocabulary.grounding.objective import encode_pairs, held_out_losses
from rankport.exporters.vocabulary.grounding.options import GroundingOptions
from rankport.exporters.vocabulary.grounding.pairs import read_pairs, read_tokens
from rankport.exporters.vocabulary.grounding.starts import start_rows
from rankport.exporters.vocabulary.grounding.state import Progress, StateFile
from rankport.exporters.vocabulary.grounding.trainable_rows import TrainableRows, trainable_rows
from rankport.exporters.vocabulary.grounding.training import Grounding, Split, split_pairs
from rankport.exporters.vocabulary.stored_tables import StoredTables, find_tables
from rankport.protos.errors import CheckpointError, InvalidRequest

REPORT = "ground.json"
_STATE = Path("grounding") / "state.safetensors"


@dataclass(frozen=True, slots=True)
class GroundReport:
    """Report of a run, as ground.json holds it."""

    out: Path
    figures: dict[str, Any]
    tables: tuple[TableDiagnostics, ...]  # of the rows as stored


@quiet()
def ground(
    checkpoint: Path,
    pairs: Path,
    out: Path,
    *,
    add: Path | None = None,
    new_tokens: int | None = None,
    first_new: int | None = None,
    options: GroundingOptions | None = None,
    resume: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> GroundReport:
    """Writes `out`: `checkpoint` with new rows trained on `pairs`, and ground.json.

    `add` is a file of tokens to append; without it the rows are there already, and `new_tokens`, `first_new` or the
    names in tokenizer.json say which. Raises CheckpointError for a model that cannot be grounded, InvalidRequest for
    pairs, tokens, options or an output folder that do not fit.
    """
    options = options or GroundingOptions()
    _require_place(out, resume)
    if add is not None and (new_tokens is not None or first_new is not None):
        raise InvalidRequest(
            "--add-tokens appends rows: --new-tokens and --first-new are for rows that exist"
        )
    read = read_pairs(pairs)
    tokens = None if add is None else read_tokens(add)
    folder, tables = _stored(checkpoint)
    on_progress("loading the checkpoint")
    source = load_checkpoint(checkpoint)
    vocabulary = (
        existing_tokens(source, new_tokens=new_tokens, first_new=first_new)
        if tokens is None
        else add_tokens(source, tokens)
    )
    encoded = encode_pairs(read, vocabulary.tokenizer, vocabulary.rows, options.max_text_tokens)
    split = split_pairs(encoded, options.held_out, options.seed)
    identity = {
        "checkpoint": source.sha256,
        "pairs": hashlib.sha256(pairs.read_bytes()).hexdigest(),
        "first_new": vocabulary.rows.first,
        "tokens": hashlib.sha256("\n".join(map(str, vocabulary.rows.names)).encode()).hexdigest(),
        **asdict(options),
    }
    with refusals_told(out):
        values, figures = _train(
            source, vocabulary, split, options, StateFile(out / _STATE, identity), tables, on_progress
        )
        on_progress("writing the checkpoint")
        diagnosed = _diagnose(tables, values)
        figures |= {"identity": identity, "diagnostics": [table.figures() for table in diagnosed]}
        (out / REPORT).write_text(json.dumps(figures, indent=2) + "\n")
        write_checkpoint(folder, tables, values, vocabulary.tokenizer, out)
        shutil.rmtree((out / _STATE).parent, ignore_errors=True)
    return GroundReport(out, figures, diagnosed)


def _require_place(out: Path, resume: bool) -> None:
    if (out / "config.json").exists() or (out.exists() and not out.is_dir()):
        raise InvalidRequest(f"--out {out} holds a checkpoint already: remove it, or write elsewhere")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / _STATE).is_file():
        raise InvalidRequest(f"--out {out} is not empty: write elsewhere")
    if not resume:
        raise InvalidRequest(f"--out {out} holds an unfinished run: go on with --resume, or remove it")


def _stored(checkpoint: Path) -> tuple[CheckpointFolder, StoredTables]:
    folder = CheckpointFolder.open(checkpoint)
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"checkpoint {str(checkpoint)!r} is quantized ({folder.quantization_method}): ground the original, "
            "then quantize"
        )
    return folder, find_tables(folder)


def _train(
    source: Checkpoint,
    vocabulary: ExtendedVocabulary,
    split: Split,
    options: GroundingOptions,
    state: StateFile,
    tables: StoredTables,
    on_progress: Callable[[str], None],
) -> tuple[NewValues, dict[str, Any]]:
    """Starts the rows, trains them, and measures them as they will be stored."""
    model, rows = source.model, vocabulary.rows
    extend_model(model, rows)
    start = _start_id(model)
    with trainable_rows(model, rows) as trainable:
        _place_starts(model, trainable, split, options)
        progress = Grounding(trainable, split, start, options).run(state, on_progress)
        _round(trainable, tables)
        after = held_out_losses(trainable, split.held_out, start, options.batch_size)
        values = NewValues(
            rows,
            trainable.input.detach().clone(),
            None if trainable.output is None else trainable.output.detach().clone(),
        )
    return values, _figures(vocabulary, split, progress, after)


def _place_starts(
    model: nn.Module, trainable: TrainableRows, split: Split, options: GroundingOptions
) -> None:
    """Starts each table's rows from its own pretrained rows."""
    weights = {"input": model.get_input_embeddings().table.weight}  # type: ignore[operator]
    weights["output"] = trainable.head.head.weight
    for number, (name, parameter) in enumerate(trainable.parameters.items()):
        old = weights[name].detach()[: trainable.rows.first]
        with torch.no_grad():
            parameter.copy_(start_rows(options.init, old, trainable.rows, split.train, options.seed + number))


def _round(trainable: TrainableRows, tables: StoredTables) -> None:
    """Rounds to the stored precision, so that what is measured is what is written."""
    stored = {"input": tables.input, "output": tables.output}
    for name, parameter in trainable.parameters.items():
        table = stored[name]
        assert table is not None
        with torch.no_grad():
            parameter.copy_(parameter.to(table.dtype).float())


def _start_id(model: nn.Module) -> int | None:
    start = getattr(model.config.get_text_config(), "bos_token_id", None)  # type: ignore[union-attr, operator]
    return int(start) if isinstance(start, int) else None


def _figures(
    vocabulary: ExtendedVocabulary, split: Split, progress: Progress, after: tuple[float, float]
) -> dict[str, Any]:
    seen = {row for pair in split.train for row in pair.tokens}
    before = progress.losses[0]
    return {
        "first_new": vocabulary.rows.first,
        "new_tokens": vocabulary.rows.count,
        "added": len(vocabulary.added),
        "pairs": {"train": len(split.train), "held_out": len(split.held_out)},
        "texts_cut": sum(pair.cut for pair in (*split.train, *split.held_out)),
        "tokens_without_a_training_pair": vocabulary.rows.count - len(seen),
        "epochs": progress.epoch,
        "best_epoch": progress.best.epoch,
        "held_out_log_likelihood": {
            "text_to_tokens": {"before": -before.text_to_tokens, "after": -after[0]},
            "tokens_to_text": {"before": -before.tokens_to_text, "after": -after[1]},
        },
        "losses": [
            {key: value for key, value in asdict(losses).items() if value == value}
            for losses in progress.losses
        ],
    }


def _diagnose(tables: StoredTables, values: NewValues) -> tuple[TableDiagnostics, ...]:
    diagnoses = []
    for name, table, new in (
        (tables.input_name, tables.input, values.input),
        (tables.output_name, tables.output, values.output),
    ):
        if name is not None and table is not None and new is not None:
            # Rows behind the new ones are padding: neither new nor pretrained.
            joined = torch.cat([_old(table, values), new.to(table.dtype)])
            rows = values.rows
            diagnoses.append(
                diagnose(name, joined, type(rows)(rows.first, rows.count, len(joined), rows.names))
            )
    return tuple(diagnoses)


def _old(table: Tensor, values: NewValues) -> Tensor:
    return table[: values.rows.first]
