"""The plan of a ranker: prompt, labels, limits, embedding tokens and graphs."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.decoders.graphs import GraphForm, export_decoder_graphs, export_grouped_score
from rankport.exporters.kinds.decoders.head_order import decoder_heads_by_group
from rankport.exporters.kinds.decoders.item_tokens import item_tokens
from rankport.exporters.kinds.decoders.module import DecoderModule, GroupedDecoder, PackedDecoder, RowDecoder
from rankport.exporters.kinds.decoders.survey import Survey, survey
from rankport.exporters.kinds.labels.label_head import ReadOut, readout_of
from rankport.exporters.kinds.labels.score import resolve_score
from rankport.exporters.kinds.ranker.decoders import require_decoder
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.owners_pairs import BARE_FIELD, OwnersPairs
from rankport.exporters.kinds.ranker.pooled import dense_head, pair_limit_of, pooled_labels
from rankport.exporters.kinds.ranker.read_out import resolve_labels
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.presets import BARE, is_preset
from rankport.exporters.options.prompts import ResolvedPrompt, check_prompt_name, resolve_prompt
from rankport.exporters.options.stated_prompt import require_prompt
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import ClassHead, Limits, ModelShape, Pooling, Precision, Target
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.joined.groups import Group
from rankport.runtime.prompt.tokenizer import Tokenizer

_DEFAULT_TOKENS = 1024


def check_ranker(checkpoint: Path, options: RankerOptions) -> None:
    """Checks what the folder says before any weight is read.

    Raises:
        CheckpointError: the class is no decoder with a head that answers.
        InvalidRequest: for a prompt that is none, or for none where the folder says that there is one.
    """
    base = None if options.base is None else Path(options.base)
    if options.prompt is None and not _reads_messages(checkpoint):
        require_prompt(checkpoint, speaking_folders(checkpoint, base))
    check_prompt_name(options.prompt)
    require_decoder(checkpoint, base)


def ranker_prompt(source: Checkpoint | StatedModel, options: RankerOptions) -> ResolvedPrompt:
    """Takes the prompt that is named, else that of a CrossEncoder's folder, else one field and the bare item.

    Labels of a preset are tokens: where a classification head answers in their place they say nothing.
    """
    resolved = resolve_prompt(options.prompt, source.tokenizer_file, (BARE_FIELD,), item_fields=True)
    if options.prompt is None:
        resolved = replace(resolved, notes=CrossEncoderFolder.read(source.path).notes)
    pairs = OwnersPairs.of(source)
    if pairs is not None and resolved.tokenizer is not None:
        resolved = _as_owners(pairs, resolved, resolved.tokenizer, options)
    if source.head in ("classification_head", "none") and is_preset(options.prompt):
        return replace(resolved, labels=None)
    return resolved


def _as_owners(
    pairs: OwnersPairs, resolved: ResolvedPrompt, tokenizer: Tokenizer, options: RankerOptions
) -> ResolvedPrompt:
    """Takes the owner's prompt, or says where one that is named differs from the owner's texts."""
    if options.prompt is None:
        return replace(resolved, prompt=pairs.prompt(tokenizer))
    # Beside a bare frame a prompt is what the owner writes into the texts.
    difference = pairs.difference(resolved.prompt, tokenizer) if pairs.says_texts else ""
    if not difference:
        return resolved
    doubt = (
        f"prompt: the folder's {pairs.name}, by which sentence-transformers reads pairs, {difference}: leave --prompt "
        "out to score as it does"
    )
    return replace(resolved, doubts=(doubt,))


def _reads_messages(checkpoint: Path) -> bool:
    return checkpoint.is_dir() and CrossEncoderFolder.read(checkpoint).messages is not None


def plan_ranker(source: Checkpoint, prompt: ResolvedPrompt, options: RankerOptions) -> ExportPlan:
    """Plans a ranker. Raises CheckpointError if it cannot be exported exactly, InvalidRequest for a wrong option."""
    pooled = pooled_labels(source, options)
    names, head = (None, None) if pooled is None else pooled
    labels = resolve_labels(source, options, prompt.labels, prompt.tokenizer, names)
    dense = dense_head(source, head, len(labels.names))
    embedding, pairing = item_tokens(source, options.item_encoder, options.embedding_tokens)
    module = DecoderModule(
        source.model,
        readout_of(labels),
        embeddings=embedding is not None,
        head=dense,
        pooling=_pooling(head),
    )
    facts = survey(module)
    facts.require_recurrent(options.targets, grouped=options.attention == "grouped")
    stated = _pair_limit(source, options) or pair_limit_of(source)
    limits = _limits(facts, options, stated, _whole_prefix(prompt))
    return ExportPlan(
        shape=ModelShape(
            hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=list(facts.layers)
        ),
        limits=limits,
        labels=labels,
        score=resolve_score(source, options.score, labels),
        head=head,
        embedding=embedding,
        pairing=pairing,
        graphs=partial(_graphs, readout_of(labels), head, facts, limits, embedding is not None, options),
        overrides=() if options.prompt is None or OwnersPairs.of(source) is None else ("prompt",),
    )


def _pair_limit(source: Checkpoint, options: RankerOptions) -> int | None:
    """Takes a CrossEncoder's limit of prefix and item together, and refuses its prompt where none can be read by it."""
    folder = CrossEncoderFolder.read(source.path)
    if folder.prompt and options.prompt is None and OwnersPairs.of(source) is None:
        raise InvalidRequest(
            f"checkpoint {str(source.path)!r} puts {folder.prompt!r} before each pair (default_prompt_name): write the "
            f"whole prompt as a file and give it by --prompt, or say --prompt {BARE} to leave it out"
        )
    return folder.max_seq_length


def _pooling(head: ClassHead | None) -> Pooling:
    return "last-k" if head is None or head.pooling is None else head.pooling


def _whole_prefix(prompt: ResolvedPrompt) -> int | None:
    """Counts the tokens of a prefix that all requests share, their fields being in the items; None of any other."""
    fields = prompt.prompt.item_fields
    if not fields or fields != prompt.prompt.fields or prompt.tokenizer is None:
        return None
    pieces = CompiledPrompt.of(prompt.prompt, prompt.tokenizer).prefix
    return sum(len(piece) for piece in pieces if not isinstance(piece, Group))


def _limits(facts: Survey, options: RankerOptions, stated: int | None, whole_prefix: int | None) -> Limits:
    """Chooses limits within the checkpoint's positions and `stated` limit of a pair.

    A `whole_prefix` leaves the rest to items, which have the request's fields with them.

    Raises CheckpointError if those asked for exceed what the model can, InvalidRequest if they exceed what is stated.
    """
    known = (facts.bound, facts.max_positions, stated, 2 * _DEFAULT_TOKENS)
    total = min(limit for limit in known if limit is not None)
    prefix, item = options.max_prefix_tokens, options.max_item_tokens
    if prefix is None and whole_prefix is not None:
        prefix, item = whole_prefix, item or max(1, total - whole_prefix)
    elif prefix is None:
        prefix = min(_DEFAULT_TOKENS, max(total - item, 0) if item is not None else total // 2)
    if item is None:
        item = max(1, min(_DEFAULT_TOKENS, total - prefix))
    facts.check_length(prefix, item)
    if stated is not None and prefix + item > stated:
        raise InvalidRequest(
            f"--max-prefix-tokens {prefix} and --max-item-tokens {item}: the folder's model reads {stated} tokens of a "
            "pair, and cuts the rest: ask for no more together, or set another max_seq_length in the folder"
        )
    return Limits(max_prefix_tokens=prefix, max_item_tokens=item)


def _graphs(
    readout: ReadOut,
    head: ClassHead | None,
    facts: Survey,
    limits: Limits,
    embeddings: bool,
    options: RankerOptions,
    source: Checkpoint,
    target: Target,
    precision: Precision,
) -> dict[str, RoleGraph]:
    module: PackedDecoder | RowDecoder
    dense, pooling = dense_head(source, head, len(readout.ids)), _pooling(head)
    if target == "onnx-cuda":
        fused = options.fused_attention
        module = RowDecoder(
            source.model, readout, embeddings=embeddings, fused=fused, head=dense, pooling=pooling
        )
    else:
        module = PackedDecoder(source.model, readout, embeddings=embeddings, head=dense, pooling=pooling)
    module.windows = facts.windows_within(limits)
    # One graph for both roles where weights are low-bit, unless asked otherwise: see `graphs`.
    joint = source.quantization is not None if options.graphs is None else options.graphs == "joint"
    form: GraphForm = "joint" if joint else "separate"
    # Of other targets too where they share the weights.
    shares = options.heads_by_group and precision == options.precision_for("onnx-cuda")
    with decoder_heads_by_group(module) if shares else nullcontext():
        graphs = export_decoder_graphs(module, facts, form=form, target=target, precision=precision)
    if target == "onnx-cuda" and options.attention == "grouped":
        grouped = GroupedDecoder(source.model, readout, embeddings=False, head=dense, pooling=pooling)
        grouped.windows = module.windows
        graphs["score.grouped"] = export_grouped_score(grouped, facts, precision=precision)
    return graphs
