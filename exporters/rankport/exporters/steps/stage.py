"""`stage`: a checkpoint to graphs and weights that wait for their proof, with warnings of what reads it otherwise."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.exporters.checkpoints.own_frame import frame_doubts
from rankport.exporters.checkpoints.own_tokenizer import reads_otherwise, writes_otherwise
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.graphs.specs import axis_ranges
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.work import ExportPlan, work_of
from rankport.exporters.options.options import ExportOptions, default_name
from rankport.exporters.options.presets import BARE
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.options.requests_file import JudgedRequest
from rankport.exporters.proof.limits import require_use, rounds_results
from rankport.exporters.proof.prove import Progress, Sources
from rankport.exporters.quantization.kernels.select import choose_fp8_products
from rankport.exporters.quantization.recipes import recipe_of
from rankport.exporters.steps.draft import TOKENIZER_FILE, draft_manifest
from rankport.exporters.steps.graphs import trace_graphs
from rankport.exporters.steps.low_bits import quantize_source
from rankport.exporters.steps.source import load_source
from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import ManifestDraft, Prompt

WEIGHTS_FILE = "weights.bin"


def stage(
    staging: BundleStaging,
    kind: ExportKind,
    checkpoint: StrPath,
    options: ExportOptions,
    judged: Sequence[JudgedRequest],
    on_progress: Progress,
    load: Callable[[], Checkpoint] | None = None,
) -> tuple[ManifestDraft, Sources]:
    """Takes a checkpoint to graphs and weights in `staging`: prompt, plan, low bits if asked for, graphs.

    `load` gives what is no folder on disk. Returns the draft of its manifest, without measurements, and what it is to
    be measured against.
    """
    work = work_of(kind)
    work.check(Path(checkpoint), options)
    load = load or partial(
        load_source, kind, checkpoint, options.base, options.ignore_remote_code, options.task
    )
    on_progress("loading the checkpoint")
    source = load()
    _require_own_target(source, options)
    prompt = work.prompt(source, options)
    if source.tokenizer_file is not None and (rebuilt := reads_otherwise(source.tokenizer_file)):
        prompt = dataclasses.replace(prompt, doubts=(*prompt.doubts, rebuilt))
    for warning in prompt.warnings:
        on_progress(f"warning: {warning}")
    plan = work.plan(source, prompt, options)
    further = [*_frame_doubts(source, prompt.prompt, plan, options), *_written_doubts(source, plan)]
    for warning in further:
        on_progress(f"warning: {warning}")
    prompt = dataclasses.replace(prompt, doubts=(*prompt.doubts, *further))
    draft = draft_manifest(kind, default_name(staging.out), source, prompt, plan, options, judged)
    if options.recipe is not None:
        recipe = recipe_of(options.recipe, options.chosen_target)
        source, quantization = quantize_source(
            kind, source, draft, prompt.tokenizer, recipe, options.requests, on_progress
        )
        draft = draft.model_copy(update={"quantization": quantization})
    precisions = map(options.precision_for, options.targets)
    require_use(options.tolerance, [rounds_results(each, draft.quantization) for each in precisions])
    if options.fp8_products:
        on_progress(f"fp8 products on CUDA: {counted(choose_fp8_products(source.model), 'layer')}")
    graphs, specs = trace_graphs(source, plan, options, on_progress)
    on_progress("writing graphs and weights")
    write_graphs(staging.path, {stem: graph.model for stem, graph in graphs.items()}, WEIGHTS_FILE)
    if source.tokenizer_file is not None:
        staging.add(TOKENIZER_FILE, source.tokenizer_file)
    for name, content in plan.files.items():
        staging.add(name, content)
    draft = draft.model_copy(
        update={"graphs": specs, "axes": axis_ranges(specs, plan.limits, plan.pair, plan.lists)}
    )
    return draft, Sources(source, None if options.recipe is None else load)


def _frame_doubts(
    source: Checkpoint, prompt: Prompt, plan: ExportPlan, options: ExportOptions
) -> Iterator[str]:
    """Says where a text that nobody's prompt frames would be framed otherwise by the tokenizer's owner."""
    named = options.prompt is not None and str(options.prompt) != BARE
    if source.tokenizer_file is None or named or plan.lists is not None:
        return
    generation = plan.generation
    read = [*prompt.prefix, *prompt.item] if generation is None else prompt.prefix
    writes_on = generation is not None and generation.decoding is None
    yield from frame_doubts(source.tokenizer_file, read, ends=not writes_on)


def _written_doubts(source: Checkpoint, plan: ExportPlan) -> Iterator[str]:
    """Says where what a model writes is another text by its tokenizer's owner."""
    if plan.generation is not None and source.tokenizer_file is not None:
        told = writes_otherwise(source.tokenizer_file)
        yield from () if told is None else (told,)


def _require_own_target(source: Checkpoint, options: ExportOptions) -> None:
    """Raises InvalidRequest where a graph that was given would have to be made for another device, or rounded."""
    if not isinstance(source.model, OnnxModel):
        return
    if options.targets != ("onnx-cpu",):
        asked = f"--target {','.join(options.targets)}"
    elif options.recipe is not None:
        asked = f"--quantize {options.recipe}"
    else:
        return
    raise InvalidRequest(
        f"{asked}: {GRAPH} is imported as it is, for onnx-cpu in fp32: export the original checkpoint, or leave it out"
    )
