"""States what is planned as the draft of a manifest."""

from collections.abc import Sequence

from rankport.exporters.checkpoints.adapter_record import adapter_record
from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.exporters.options.requests_file import JudgedRequest
from rankport.exporters.proof.tokenization import report_tokenization
from rankport.exporters.quantization.record import record
from rankport.protos.installed.packages import installed_version
from rankport.runtime.bundle.manifest import ManifestDraft, Source

TOKENIZER_FILE = "tokenizer.json"
_TOOLS = ("rankport", "torch", "transformers", "onnx_ir", "onnxscript", "onnxruntime")


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
        chat=prompt.chat,
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
