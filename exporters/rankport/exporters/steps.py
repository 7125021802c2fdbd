"""The steps that export and verify are made of, each once.

Owns what a step does for any kind, which hands in an `ExportWork` for the rest. `export` and `verify` own the order.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torch import nn

from rankport.exporters.checkpoints.adapter_record import adapter_record
from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.exporters.checkpoints.own_frame import frame_doubts
from rankport.exporters.checkpoints.own_tokenizer import reads_otherwise, writes_otherwise
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.graphs.passes.fp8_products import expand_fp8_products
from rankport.exporters.graphs.passes.half_precision import BeyondHalfError
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.specs import axis_ranges, graph_specs
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.work import ExportPlan, work_of
from rankport.exporters.options.options import ExportOptions, default_name
from rankport.exporters.options.presets import BARE
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.exporters.options.request_files import RequestFiles, StrPath
from rankport.exporters.options.requests_file import JudgedRequest, file_sha256
from rankport.exporters.proof.limits import require_use, rounds_results
from rankport.exporters.proof.prove import Progress, Sources
from rankport.exporters.proof.tokenization import report_tokenization
from rankport.exporters.quantization.calibration import InputSums
from rankport.exporters.quantization.kernels.select import choose_fp8_products
from rankport.exporters.quantization.loud import find_loud
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import Recipe, recipe_of
from rankport.exporters.quantization.record import record
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.packages import installed_version
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import (
    Calibration,
    GraphSpec,
    ManifestDraft,
    Prompt,
    Quantization,
    Source,
)
from rankport.runtime.prompt.tokenizer import Tokenizer

WEIGHTS_FILE = "weights.bin"
TOKENIZER_FILE = "tokenizer.json"
_TOOLS = ("rankport", "torch", "transformers", "onnx_ir", "onnxscript", "onnxruntime")


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


def load_source(
    kind: ExportKind,
    checkpoint: StrPath,
    base: StrPath | None = None,
    ignore_remote_code: bool = False,
    task: str | None = None,
) -> Checkpoint:
    """Loads a checkpoint as its kind needs it. Raises as `load_checkpoint`."""
    return load_checkpoint(
        Path(checkpoint),
        head=work_of(kind).head,
        base=None if base is None else Path(base),
        ignore_remote_code=ignore_remote_code,
        task=task,
    )


def draft_manifest(
    kind: ExportKind,
    name: str,
    source: Checkpoint,
    prompt: ResolvedPrompt,
    plan: ExportPlan,
    options: ExportOptions,
    judged: Sequence[JudgedRequest],
) -> ManifestDraft:
    """States what is planned. Graphs, their axes and measurements are still to come."""
    return ManifestDraft(
        name=options.name or name,
        version=options.version,
        kind=kind.name,
        source=Source(
            checkpoint_sha256=source.sha256,
            architecture=source.architecture,
            model_type=source.model_type,
            dtype=source.dtype,
            parameters=source.parameters,
            tools={tool: installed_version(tool) or "unknown" for tool in _TOOLS},
            adapter=adapter_record(source),
            notes=[*source.notes, *prompt.notes, *prompt.warnings],
            overrides=list(plan.overrides),
            ignored_code=list(source.ignored_code),
            task=source.task,
        ),
        precision=options.precision_for(options.chosen_target),
        shape=plan.shape,
        graphs=[],
        axes={},
        tokenizer=TOKENIZER_FILE if source.tokenizer_file is not None else None,
        prompt=prompt.prompt,
        labels=plan.labels,
        score=plan.score,
        wide=list(plan.wide),
        tagging=plan.tagging,
        generation=plan.generation,
        sets=plan.sets,
        lists=plan.lists,
        limits=plan.limits,
        pair=plan.pair,
        head=plan.head,
        embedding=plan.embedding,
        pairing=plan.pairing,
        queries=plan.queries,
        # What a generator writes has the model's own tokens; of a list the proof compares whole prompts.
        tokenization=None if plan.generation or plan.lists else report_tokenization(prompt, judged),
        parity=None,
        quality=None,
        quantization=None if source.quantization is None else record(source.quantization),
    )


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


@contextmanager
def _weights_named(model: nn.Module) -> Iterator[None]:
    """Tells which weight a value of a graph is, by what it holds: traced graphs have names of their own."""
    try:
        yield
    except BeyondHalfError as error:
        held = (
            f"weight {name!r}"
            for name, weight in model.named_parameters()
            if weight.is_floating_point() and weight.numel() and float(weight.abs().max()) == error.largest
        )
        name = next(held, None)
        raise CheckpointError(str(error) if name is None else error.told(name)) from error


def trace_graphs(
    source: Checkpoint, plan: ExportPlan, options: ExportOptions, on_progress: Progress
) -> tuple[dict[str, RoleGraph], list[GraphSpec]]:
    """Traces the graphs for every target: by name, the first target's bare; and as the manifest lists them."""
    on_progress("tracing the graphs")
    graphs: dict[str, RoleGraph] = {}
    specs: list[GraphSpec] = []
    first = options.chosen_target
    for target in options.targets:
        precision = options.precision_for(target)
        other = None if precision == options.precision_for(first) else precision
        with _weights_named(source.model):
            traced = plan.graphs(source, target, precision)
        for stem, graph in traced.items():
            name = stem if target == first else f"{stem}.{target}"
            expand_fp8_products(graph.model)
            graphs[name] = graph
            specs += graph_specs(name, graph, target, other)
    return graphs, specs
