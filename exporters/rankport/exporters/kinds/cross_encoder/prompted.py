"""Cross-encoders that read prefix and item in a prompt of any form, each text within a limit of its own.

Encoder-decoders that answer by a token, and decoders that read both ways: no tokenizer says how they frame two texts.
"""

from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.cross_encoder.first_token import (
    answers_by_token,
    first_token_graphs,
    first_token_labels,
)
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.labels.heads import head_labels, is_of_decoder
from rankport.exporters.kinds.labels.score import resolve_score
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.texts.head_module import head_module
from rankport.exporters.kinds.texts.pairs.frame import FIRST_FIELD, PairTokenizer
from rankport.exporters.kinds.texts.positions import position_limit
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt, resolve_prompt
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Limits, ModelShape, Pair, Precision, Target

_DEFAULT_TOKENS = 512
_PREFIX_SHARE = 4
"""A query has a quarter of the whole, unless asked otherwise."""


def reads_prompt(source: Checkpoint | StatedModel) -> bool:
    """Tells whether a checkpoint is one of these, by its class or by what its folder says."""
    if answers_by_token(source):
        return True
    if isinstance(source, StatedModel):
        return source.head == "classification_head" and source.reads_both_ways
    return source.head == "classification_head" and is_of_decoder(source.model)


def prompt_of(source: Checkpoint, options: CrossEncoderOptions) -> ResolvedPrompt:
    """Takes the prompt that is named. Raises InvalidRequest if it does not fit the tokenizer."""
    return resolve_prompt(options.prompt, source.tokenizer_file, (FIRST_FIELD,))


def plan_prompted(source: Checkpoint, prompt: ResolvedPrompt, options: CrossEncoderOptions) -> ExportPlan:
    """Plans such a cross-encoder. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    by_token = answers_by_token(source)
    labels = (
        first_token_labels(source, prompt, options) if by_token else head_labels(source, options.positive)
    )
    limits = _limits(source, options)
    most = limits.max_prefix_tokens + limits.max_item_tokens
    return ExportPlan(
        shape=ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[]),
        limits=limits,
        pair=Pair(max_tokens=most, cut="each"),
        labels=labels,
        score=resolve_score(source, options.score, labels),
        graphs=partial(first_token_graphs, labels) if by_token else partial(_graphs, len(labels.names)),
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


def _graphs(labels: int, source: Checkpoint, target: Target, precision: Precision) -> dict[str, RoleGraph]:
    of = TextGraph(head_module(source.model), source.model, "logits", ("items", labels))
    return {"score": RoleGraph(export_text_graph(of, target, precision), {"score": ("logits",)})}
