"""Cross-encoders that answer by the first token that they write: encoder-decoders with an LM head, as monoT5.

Owns their prompt, limits and graph; `plan` makes an export of them.
"""

from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.labels.label_head import label_head, readout_of
from rankport.exporters.kinds.labels.label_tokens import NamedLabels, labels_of_tokens
from rankport.exporters.kinds.labels.score import resolve_score
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.texts.head_module import FirstStepModule
from rankport.exporters.kinds.texts.pair_frame import FIRST_FIELD, PairTokenizer
from rankport.exporters.kinds.texts.positions import position_limit
from rankport.exporters.kinds.texts.seq2seq import require_first_step
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt, resolve_prompt
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Labels, Limits, ModelShape, Pair, Precision, Target

_DEFAULT_TOKENS = 512
_PREFIX_SHARE = 4
"""A query has a quarter of the whole, unless asked otherwise."""


def answers_by_token(source: Checkpoint) -> bool:
    """Tells whether a checkpoint is an encoder-decoder with an LM head."""
    return source.head == "seq2seq_lm_head"


def first_token_prompt(source: Checkpoint, options: CrossEncoderOptions) -> ResolvedPrompt:
    """Takes the prompt that is named. Raises InvalidRequest if it does not fit the tokenizer."""
    return resolve_prompt(options.prompt, source.tokenizer_file, (FIRST_FIELD,))


def plan_first_token(source: Checkpoint, prompt: ResolvedPrompt, options: CrossEncoderOptions) -> ExportPlan:
    """Plans such a cross-encoder. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    require_first_step(source)
    named = NamedLabels(options.labels, options.label_ids, options.positive)
    labels = labels_of_tokens(source, named, prompt.labels, prompt.tokenizer)
    limits = _limits(source, options)
    most = limits.max_prefix_tokens + limits.max_item_tokens
    return ExportPlan(
        shape=ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[]),
        limits=limits,
        pair=Pair(max_tokens=most, cut="each"),
        labels=labels,
        score=resolve_score(source, options.score, labels),
        graphs=partial(_graphs, labels),
    )


def _limits(source: Checkpoint, options: CrossEncoderOptions) -> Limits:
    """Chooses limits as asked, of the whole that tokenizer and positions allow. Raises CheckpointError for more."""
    file, positions = source.tokenizer_file, position_limit(source.model)
    stated = None if file is None else PairTokenizer.of(file).limit
    known = [limit for limit in (stated, positions) if limit is not None]
    whole = min(known, default=_DEFAULT_TOKENS)
    prefix = options.max_prefix_tokens or max(1, whole // _PREFIX_SHARE)
    item = options.max_item_tokens or max(1, whole - prefix)
    if positions is not None and prefix + item > positions:
        raise CheckpointError(
            f"--max-prefix-tokens {prefix} and --max-item-tokens {item}: together they exceed the checkpoint's "
            f"position encodings of {positions} tokens: ask for less"
        )
    return Limits(max_prefix_tokens=prefix, max_item_tokens=item)


def _graphs(labels: Labels, source: Checkpoint, target: Target, precision: Precision) -> dict[str, RoleGraph]:
    module = FirstStepModule(source.model, label_head(source.model, readout_of(labels)))
    of = TextGraph(module, source.model, "logits", ("items", len(labels.names)))
    with module.answering():
        return {"score": RoleGraph(export_text_graph(of, target, precision), {"score": ("logits",)})}
