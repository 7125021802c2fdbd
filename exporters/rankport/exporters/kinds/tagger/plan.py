"""The plan of a tagger: labels and their scheme, limits, transitions, and its one graph."""

from functools import partial
from typing import Literal

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.labels.heads import head_names
from rankport.exporters.kinds.tagger.crf_files import BUNDLE_FILE, CrfFiles, read_crf
from rankport.exporters.kinds.tagger.module import TaggerModule
from rankport.exporters.kinds.tagger.options import TaggerOptions
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.texts.positions import position_limit, require_within_reach
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Labels, Limits, ModelShape, Precision, Tagging, Target
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.rules import ROLE

_DEFAULT_TOKENS = 512


def plan_tagger(source: Checkpoint, prompt: ResolvedPrompt, options: TaggerOptions) -> ExportPlan:
    """Plans a tagger. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    if source.head != "token_head":
        raise CheckpointError(
            f"config.json says architecture {source.architecture!r}: a tagger is a ...ForTokenClassification"
        )
    scheme = label_scheme(source)
    files = read_crf(source.path, scheme)
    crf = None if files is None else files.crf
    return ExportPlan(
        shape=ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[]),
        limits=tagger_limits(source, options),
        labels=Labels(source="token_head", names=list(scheme.names), ids=list(range(len(scheme.names)))),
        tagging=Tagging(scheme=scheme.scheme, unit=_unit(files, options), crf=crf),
        overrides=tuple(name for name in ("prompt", "unit") if getattr(options, name) is not None),
        files={} if files is None else {BUNDLE_FILE: files.tables.to_bytes()},
        graphs=partial(_graphs, len(scheme.names)),
    )


def label_scheme(source: Checkpoint) -> LabelScheme:
    """Reads the labels of the head. Raises CheckpointError naming the label that fits no scheme."""
    try:
        return LabelScheme.of(head_names(source))
    except ValueError as error:
        raise CheckpointError(f"{source.config_file}: id2label: {error}") from error


def tagger_limits(source: Checkpoint, options: TaggerOptions) -> Limits:
    """Chooses the longest text: what was asked for, else what the tokenizer's config says, within the positions."""
    most = position_limit(source.model)
    stated = _stated_length(source)
    default = min(most or _DEFAULT_TOKENS, stated or _DEFAULT_TOKENS, _DEFAULT_TOKENS)
    asked = options.max_item_tokens or default
    require_within_reach(source.model, f"--max-item-tokens {asked}", asked)
    return Limits(max_prefix_tokens=0, max_item_tokens=asked)


def _stated_length(source: Checkpoint) -> int | None:
    """Reads model_max_length, which transformers writes as a huge number where there is none."""
    if source.tokenizer_file is None:
        return None
    # Of an adapter without a tokenizer its base's.
    file = source.tokenizer_file.parent / "tokenizer_config.json"
    stated = read_json_object(file).get("model_max_length") if file.is_file() else None
    return stated if isinstance(stated, int) and 1 <= stated < 10**9 else None


def _unit(files: CrfFiles | None, options: TaggerOptions) -> Literal["word", "token"]:
    if files is None:
        return options.unit or "word"
    if options.unit not in (None, files.unit):
        raise InvalidRequest(
            f"--unit {options.unit}: crf.json says its transitions are between {files.unit}s"
        )
    return files.unit


def _graphs(labels: int, source: Checkpoint, target: Target, precision: Precision) -> dict[str, RoleGraph]:
    module = TaggerModule(source.model)
    graph = TextGraph(module, source.model, "logits", ("items", "item_tokens", labels))
    return {ROLE: RoleGraph(export_text_graph(graph, target, precision), {ROLE: ("logits",)})}
