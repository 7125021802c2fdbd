"""The plan of a cross-encoder: frame of a pair, labels, limit, and its one graph."""

from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.cross_encoder.first_token import answers_by_token
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.cross_encoder.prompted import plan_prompted, prompt_of, reads_prompt
from rankport.exporters.kinds.labels.heads import head_labels, require_both_ways
from rankport.exporters.kinds.labels.score import resolve_score
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.texts.head_module import head_module
from rankport.exporters.kinds.texts.pairs.frame import PairFrame, PairTokenizer, inputs_of
from rankport.exporters.kinds.texts.positions import position_limit, require_within_reach
from rankport.exporters.kinds.texts.seq2seq import require_read_again
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt, tokenizer_of
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Limits, ModelShape, Pair, Precision, Target

_DEFAULT_TOKENS = 512


def cross_encoder_prompt(source: Checkpoint, options: CrossEncoderOptions) -> ResolvedPrompt:
    """Makes the prompt by which the checkpoint's tokenizer frames two texts, or takes the one that is named."""
    if reads_prompt(source):
        return prompt_of(source, options)
    frame = PairFrame.of(source.tokenizer_file)
    return ResolvedPrompt(frame.prompt, None, tokenizer_of(source.tokenizer_file))


def plan_cross_encoder(
    source: Checkpoint, prompt: ResolvedPrompt, options: CrossEncoderOptions
) -> ExportPlan:
    """Plans a cross-encoder. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    _require_head(source)
    if reads_prompt(source):
        return plan_prompted(source, prompt, options)
    require_read_again(source, prompt)
    labels = head_labels(source, options.positive)
    most = _limit(source, options)
    typed = PairFrame.of(source.tokenizer_file).typed
    return ExportPlan(
        shape=ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[]),
        limits=Limits(max_prefix_tokens=most, max_item_tokens=most),
        pair=Pair(max_tokens=most, cut=options.cut),
        labels=labels,
        score=resolve_score(source, options.score, labels),
        overrides=_overrides(source, options),
        graphs=partial(_graphs, len(labels.names), inputs_of(source.model, typed=typed)),
    )


def _graphs(
    labels: int, inputs: tuple[str, ...], source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    of = TextGraph(head_module(source.model), source.model, "logits", ("items", labels), inputs)
    return {"score": RoleGraph(export_text_graph(of, target, precision), {"score": ("logits",)})}


def _overrides(source: Checkpoint, options: CrossEncoderOptions) -> tuple[str, ...]:
    """Names the options that may say otherwise than a CrossEncoder's folder; none of another checkpoint."""
    if not CrossEncoderFolder.read(source.path).is_own:
        return ()
    given = [name for name in ("score", "max_pair_tokens") if getattr(options, name) is not None]
    return (*given, *(("cut",) if options.cut != "longest-first" else ()))


def _require_head(source: Checkpoint) -> None:
    if answers_by_token(source):
        return
    if source.head != "classification_head":
        raise CheckpointError(
            f"{source.architecture} has no head over a whole pair: a cross-encoder is a ...ForSequenceClassification, "
            "or an encoder-decoder whose first token answers (T5ForConditionalGeneration)"
        )
    require_both_ways(source, "--kind ranker shares its prefix among the items")


def _limit(source: Checkpoint, options: CrossEncoderOptions) -> int:
    """Chooses how long a pair may be: as asked, as the folder says, within positions."""
    folder = CrossEncoderFolder.read(source.path)
    if folder.prompt:
        raise InvalidRequest(
            f"checkpoint {str(source.path)!r} puts {folder.prompt!r} before each pair (default_prompt_name), which a "
            "pair's frame lacks: put it into the texts, and take default_prompt_name out of "
            "config_sentence_transformers.json"
        )
    if folder.messages is not None and folder.logit_score is None:
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} reads a pair as messages of a chat template, which a pair's frame lacks: "
            "serve this one with sentence-transformers"
        )
    tokenizer = None if source.tokenizer_file is None else PairTokenizer.of(source.tokenizer_file)
    stated = folder.max_seq_length or (None if tokenizer is None else tokenizer.limit)
    positions = position_limit(source.model)
    known = [limit for limit in (stated, positions) if limit is not None]
    asked = options.max_pair_tokens
    most = asked or min(known, default=_DEFAULT_TOKENS)
    require_within_reach(source.model, f"--max-pair-tokens {most}", most)
    if asked is not None and folder.max_seq_length is not None and asked > folder.max_seq_length:
        raise InvalidRequest(
            f"--max-pair-tokens {asked}: the folder's model reads {folder.max_seq_length} tokens of a pair, and cuts "
            "the rest: ask for no more, or set another max_seq_length in the folder"
        )
    return most
