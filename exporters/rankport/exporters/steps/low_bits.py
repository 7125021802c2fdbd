"""Quantizes a checkpoint, calibrated on real requests where there are some."""

import dataclasses
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.request_files import RequestFiles
from rankport.exporters.options.requests_file import file_sha256
from rankport.exporters.proof.prove import Progress
from rankport.exporters.quantization.calibration import InputSums
from rankport.exporters.quantization.loud import find_loud
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import Recipe
from rankport.exporters.quantization.record import record
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Calibration, ManifestDraft, Quantization
from rankport.runtime.prompt.tokenizer import Tokenizer


def quantize_source(
    kind: ExportKind,
    source: Checkpoint,
    draft: ManifestDraft,
    tokenizer: Tokenizer | None,
    recipe: Recipe,
    files: RequestFiles,
    on_progress: Progress,
) -> tuple[Checkpoint, Quantization]:
    """Quantizes the model of `source` in place. `draft` says how requests become tokens.

    Repeatable: the same checkpoint, recipe and calibration file give the same low-bit model.

    Raises:
        CheckpointError: the checkpoint is quantized already, or has nothing to quantize.
        InvalidRequest: the calibration file cannot be used; the message names the line.
    """
    if source.quantization is not None:
        raise CheckpointError(
            f"--quantize {recipe.name}: the checkpoint is quantized already ({source.quantization.method}, "
            f"{source.quantization.format}), which is kept: leave --quantize out, or export the original"
        )
    watched: InputSums | None = None
    used: Calibration | None = None
    if files.calibration is not None:
        file, calibrate = Path(files.calibration), work_of(kind).calibrate
        assert calibrate is not None, kind.name
        watched = calibrate(source, draft, tokenizer, file, files.store, on_progress)
        used = Calibration(
            requests=watched.requests,
            tokens=watched.tokens,
            sha256=file_sha256(file),
            cut=watched.cut,
            passed_over=watched.passed_over,
        )
    loud = find_loud(source.model, recipe.loud) if recipe.loud and work_of(kind).finds_loud else None
    facts = quantize(
        source.model,
        recipe,
        watched,
        lambda done, total: on_progress(f"quantizing to {recipe.name}: layer {done}/{total}"),
        whole_head=draft.generation is not None,
        loud=loud,
    )
    return dataclasses.replace(source, quantization=facts), record(facts, used)
