"""`export`: checkpoint in, proven bundle out, or nothing.

Owns the order of the steps. Each step lives in a module of its own.
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.adapter_record import adapter_record
from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.graphs.specs import axis_ranges, graph_specs
from rankport.exporters.graphs.weights import write_graphs
from rankport.exporters.kinds.item_encoder.module import EncoderModule, export_encode_graph
from rankport.exporters.kinds.ranker.calibrate import quantize_checkpoint, read_requests, record
from rankport.exporters.kinds.ranker.graphs import RoleGraph, export_ranker_graphs
from rankport.exporters.kinds.ranker.judged import JudgedRequest, read_judged, require_quality
from rankport.exporters.kinds.ranker.modes import require
from rankport.exporters.kinds.ranker.module import RankerModule
from rankport.exporters.kinds.ranker.read_out import readout_of, resolve_labels
from rankport.exporters.kinds.ranker.survey import survey
from rankport.exporters.kinds.ranker.tokenization import report_tokenization
from rankport.exporters.options import defaults
from rankport.exporters.options.options import ExportOptions, StrPath, default_name
from rankport.exporters.proof.prove import Sources, prove
from rankport.exporters.quantization.recipes import recipe_of
from rankport.runtime.backends.tensorrt.build import build_plans, require_target
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import (
    Embedding,
    GraphSpec,
    Labels,
    Limits,
    ManifestDraft,
    ModelShape,
    Pairing,
    Precision,
    Quantization,
    Source,
    Target,
)

WEIGHTS_FILE = "weights.bin"
TOKENIZER_FILE = "tokenizer.json"
_TOOLS = ("rankport", "torch", "transformers", "onnx_ir", "onnxscript", "onnxruntime")


def export(
    checkpoint: StrPath,
    out: StrPath,
    *,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: object,
) -> Bundle:
    """Exports a Hugging Face checkpoint folder to a bundle directory and proves it equal to its source.

    `options` are the fields of `ExportOptions`; `kind` is required. On any error nothing is left at `out`.

    Raises:
        InvalidRequest: an option is wrong.
        CheckpointError: the checkpoint cannot be exported exactly; the message says why.
        ParityError: the bundle differs from its source beyond the tolerance.
        BackendError, BundleError: plans that `target` names cannot be built: see `build_plans`.
    """
    return run_export(checkpoint, out, ExportOptions.of(options), on_progress)


def run_export(
    checkpoint: StrPath, out: StrPath, chosen: ExportOptions, on_progress: Callable[[str], None]
) -> Bundle:
    """`export` with its options made."""
    judged = [] if chosen.judged is None else read_judged(Path(chosen.judged))
    if chosen.calibration is not None:
        read_requests(Path(chosen.calibration))  # a bad line should not cost the load of a model
    for build_target in chosen.plans:
        require_target(build_target)  # nor should a machine that cannot build them

    def load() -> Checkpoint:
        return load_checkpoint(
            Path(checkpoint),
            headless=chosen.kind == "item-encoder",
            base=None if chosen.base is None else Path(chosen.base),
        )

    with BundleStaging(out, overwrite=chosen.overwrite) as staging:
        made = _write_graphs(staging, load, chosen, judged, on_progress)
        staged = staging.finalize(made.draft)
        proofs = {}
        for target in chosen.targets:
            view = staged.for_target(target)
            proof = proofs[target] = prove(
                view,
                made.sources,
                tolerance=chosen.tolerance,
                judged=judged,
                store=chosen.store,
                on_progress=_prefixed(on_progress, target, chosen.targets),
            )
            require(proof.parity)
            if proof.quality is not None:
                require_quality(proof.quality, chosen.tolerance, view.manifest)
        first, *others = proofs.values()
        measured: dict[str, object] = {
            "parity": first.parity,
            "quality": first.quality,
            "drift": first.drift,
            "target_parity": dict(zip(chosen.targets[1:], (one.parity for one in others), strict=True))
            or None,
        }
        staged = staging.finalize(made.draft.model_copy(update=measured))
        del made  # and the model with it: a builder takes memory of its own
        for build_target in chosen.plans:
            build_plans(staged, build_target, on_progress=on_progress)
        on_progress("publishing the bundle")
        return staging.publish()


@dataclass(frozen=True, slots=True)
class _Made:
    """A staged bundle before its proof."""

    draft: ManifestDraft
    sources: Sources  # the only holder of the model


def _write_graphs(
    staging: BundleStaging,
    load: Callable[[], Checkpoint],
    chosen: ExportOptions,
    judged: list[JudgedRequest],
    on_progress: Callable[[str], None],
) -> _Made:
    on_progress("loading the checkpoint")
    source = load()
    plan = _plan(source, chosen)
    name = default_name(staging.out)
    quantization = record(source.quantization)
    if chosen.recipe is not None:
        source, quantization = quantize_checkpoint(
            source,
            _draft(source, chosen, plan, [], name, judged, None),
            plan.prompt.tokenizer,
            recipe_of(chosen.recipe, chosen.chosen_target),
            chosen.calibration,
            chosen.store,
            on_progress,
        )
        plan = _plan(source, chosen)
    on_progress("tracing the graphs")
    graphs: dict[str, RoleGraph] = {}
    specs: list[GraphSpec] = []
    for target in chosen.targets:
        precision = chosen.precision_for(target)
        other = None if precision == chosen.precision_for(chosen.chosen_target) else precision
        for stem, graph in plan.make_graphs(target, precision).items():
            name_ = stem if target == chosen.chosen_target else f"{stem}.{target}"
            graphs[name_] = graph
            specs += graph_specs(name_, graph, target, other)
    on_progress("writing graphs and weights")
    write_graphs(staging.path, {stem: graph.model for stem, graph in graphs.items()}, WEIGHTS_FILE)
    if source.tokenizer_file is not None:
        staging.add(TOKENIZER_FILE, source.tokenizer_file)
    draft = _draft(source, chosen, plan, specs, name, judged, quantization)
    return _Made(draft, Sources(source, load if chosen.recipe is not None else None))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the kind decides: the graphs and the manifest fields that follow from it."""

    make_graphs: Callable[[Target, Precision], dict[str, RoleGraph]]  # by name
    shape: ModelShape
    labels: Labels | None
    limits: Limits
    embedding: Embedding | None
    pairing: Pairing | None
    prompt: defaults.ResolvedPrompt


def _plan(source: Checkpoint, options: ExportOptions) -> _Plan:
    return _encoder_plan(source, options) if options.kind == "item-encoder" else _ranker_plan(source, options)


def _ranker_plan(source: Checkpoint, options: ExportOptions) -> _Plan:
    prompt = defaults.ranker_prompt(source, options)
    labels = resolve_labels(source, options, prompt.labels, prompt.tokenizer)
    module = RankerModule(source.model, readout_of(labels), embeddings=options.kind == "mix-ranker")
    facts = survey(module)
    limits = defaults.ranker_limits(facts, options)
    embedding, pairing = defaults.mixed_items(source, options)

    def make_graphs(target: Target, precision: Precision) -> dict[str, RoleGraph]:
        return export_ranker_graphs(
            module,
            facts,
            joint=_is_joint(source, options),
            target=target,
            precision=precision,
            fused_attention=options.fused_attention,
        )

    shape = ModelShape(
        hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=list(facts.layers)
    )
    return _Plan(make_graphs, shape, labels, limits, embedding, pairing, prompt)


def _encoder_plan(source: Checkpoint, options: ExportOptions) -> _Plan:
    prompt = defaults.encoder_prompt(source, options)
    embedding = defaults.encoder_output(source, options)
    limits = defaults.encoder_limits(source, options)
    module = EncoderModule(source.model, embedding)
    shape = ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[])
    return _Plan(
        lambda target, precision: {
            "encode": RoleGraph(
                export_encode_graph(module, source.hidden_size, target, precision),
                {"encode": ("embeddings",)},
            )
        },
        shape,
        None,
        limits,
        embedding,
        None,
        prompt,
    )


def _is_joint(source: Checkpoint, options: ExportOptions) -> bool:
    """One graph for both roles, unless asked otherwise, where weights are low-bit: see `kinds.ranker.graphs`."""
    return source.quantization is not None if options.graphs is None else options.graphs == "joint"


def _draft(
    source: Checkpoint,
    options: ExportOptions,
    plan: _Plan,
    graphs: list[GraphSpec],
    name: str,
    judged: list[JudgedRequest],
    quantization: Quantization | None,
) -> ManifestDraft:
    return ManifestDraft(
        name=options.name or name,
        version=options.version,
        kind="item-encoder" if options.kind == "item-encoder" else "ranker",
        source=Source(
            checkpoint_sha256=source.sha256,
            architecture=source.architecture,
            model_type=source.model_type,
            dtype=source.dtype,
            parameters=source.parameters,
            tools={tool: importlib.metadata.version(tool) for tool in _TOOLS},
            adapter=adapter_record(source),
            notes=list(source.notes),
        ),
        precision=options.precision_for(options.chosen_target),
        shape=plan.shape,
        graphs=graphs,
        axes=axis_ranges(graphs, plan.limits),
        tokenizer=TOKENIZER_FILE if source.tokenizer_file is not None else None,
        prompt=plan.prompt.prompt,
        labels=plan.labels,
        limits=plan.limits,
        embedding=plan.embedding,
        pairing=plan.pairing,
        tokenization=report_tokenization(plan.prompt, judged),
        parity=None,
        quality=None,
        quantization=quantization,
    )


def _prefixed(
    on_progress: Callable[[str], None], target: Target, targets: tuple[Target, ...]
) -> Callable[[str], None]:
    return on_progress if len(targets) == 1 else lambda step: on_progress(f"{target}: {step}")
