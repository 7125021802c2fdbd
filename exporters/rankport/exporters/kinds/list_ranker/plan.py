"""The plan of a list ranker: its prompt, markers, limits, embedding tokens, and its one graph."""

from dataclasses import dataclass
from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.kinds.decoders.item_tokens import item_tokens
from rankport.exporters.kinds.list_ranker.causal import require_causal
from rankport.exporters.kinds.list_ranker.graphs import list_graphs, list_model
from rankport.exporters.kinds.list_ranker.options import ListRankerOptions
from rankport.exporters.kinds.list_ranker.template import frame_tokens, marker, read_part, require_tokens
from rankport.exporters.kinds.texts.positions import position_limit
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt, tokenizer_of
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Labels, Limits, ModelShape, Prompt, Score, Segment
from rankport.runtime.bundle.sections.lists import Lists, ListTemplate
from rankport.runtime.prompt.tokenizer import Tokenizer

_DEFAULT_TOKENS = 4096
_QUERY_SHARE = 8
"""The prefix has an eighth of a block each time it stands in one, unless the checkpoint or an option says less."""


def list_ranker_prompt(source: Checkpoint, options: ListRankerOptions) -> ResolvedPrompt:
    """Names the fields of the checkpoint's template, and the bare item.

    Raises CheckpointError without a tokenizer, or for a token that it lacks.
    """
    form = list_model(source).form
    tokenizer = tokenizer_of(source.tokenizer_file)
    if tokenizer is None:
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} has no tokenizer.json: a list ranker puts a prompt of texts together"
        )
    require_tokens(form, tokenizer)
    prefix = [Segment(field=name) for name in form.template.fields]
    notes = _notes(source, form, options)
    return ResolvedPrompt(Prompt(prefix=prefix, item=[Segment(item=True)]), None, tokenizer, notes=notes)


def _notes(source: Checkpoint, form: ListRankerConfig, options: ListRankerOptions) -> tuple[str, ...]:
    """Says where blocks are shorter by default than the checkpoint's own, which changes the scores of long lists."""
    most = _most_tokens(source, form)
    joins = form.join in ("independent", "mean-query")
    if not joins or options.max_list_tokens is not None or (most is not None and most <= _DEFAULT_TOKENS):
        return ()
    read = "any number is" if most is None else f"{most} are"
    return (
        f"blocks end at {_DEFAULT_TOKENS} tokens by default, where {read} read by the checkpoint: longer lists "
        "are cut into more blocks than it makes itself, with other scores; --max-list-tokens raises it",
    )


def plan_list_ranker(source: Checkpoint, prompt: ResolvedPrompt, options: ListRankerOptions) -> ExportPlan:
    """Plans a list ranker. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    model = list_model(source)
    form, tokenizer = model.form, prompt.tokenizer
    assert tokenizer is not None, "list_ranker_prompt"
    require_causal(model)
    template = read_part(form.template)
    sizes = _Sizes.of(source, form, template, tokenizer, options)
    if template.alone and options.item_encoder is not None:
        raise InvalidRequest(
            "--item-encoder: this list ranker reads the text of each item by itself too, of which embedding tokens "
            "have none: leave it out"
        )
    embedding, pairing = item_tokens(source, options.item_encoder, options.embedding_tokens)
    width = form.width(source.hidden_size)
    return ExportPlan(
        shape=ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[]),
        limits=sizes.limits,
        labels=Labels(source="classification_head", names=["relevance"], ids=[0]),
        score=score_of(form),
        lists=Lists(
            **{name: getattr(template, name) for name in ListTemplate.model_fields},
            item_marker=None if form.item_marker is None else marker(form.item_marker, tokenizer),
            query_marker=None if form.query_marker is None else marker(form.query_marker, tokenizer),
            width=width,
            read_out=form.read_out,
            max_items=options.max_list_items or form.max_items,
            max_tokens=sizes.list_tokens,
            join=form.join,
        ),
        embedding=embedding,
        pairing=pairing,
        overrides=() if options.max_list_items is None else ("max_list_items",),
        graphs=partial(list_graphs, width, None if embedding is None else embedding.hidden_size),
    )


def score_of(form: ListRankerConfig) -> Score:
    """Says what a score of the form's read-out is."""
    if form.read_out == "cosine":
        return Score(kind="cosine", transform="none")
    probability = form.score == "probability"
    return Score(
        kind="probability" if probability else "logit", transform="sigmoid" if probability else "none"
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    list_tokens: int
    limits: Limits

    @classmethod
    def of(
        cls,
        source: Checkpoint,
        form: ListRankerConfig,
        template: ListTemplate,
        tokenizer: Tokenizer,
        options: ListRankerOptions,
    ) -> "_Sizes":
        """Chooses limits within what the checkpoint states, so that any prefix and any item fit one block."""
        total = _list_tokens(source, form, options)
        uses = sum(segment.field is not None for segment in (*template.head, *template.tail))
        room = total - frame_tokens(template, form, tokenizer)
        query = options.max_prefix_tokens or _least(form.max_query_tokens, room // _QUERY_SHARE)
        item = options.max_item_tokens or _least(form.max_item_tokens, room - uses * query)
        if item < 1 or query < 1 or uses * query + item > room:
            raise InvalidRequest(
                f"--max-list-tokens {total}: with the prompt's own {total - room} tokens a block does not hold an item "
                f"of {max(item, 1)} and {uses} times a prefix of {max(query, 1)}: raise it, or lower --max-item-tokens "
                "or --max-prefix-tokens"
            )
        return cls(total, Limits(max_prefix_tokens=query, max_item_tokens=item))


def _least(stated: int | None, room: int) -> int:
    return room if stated is None else min(stated, room)


def _list_tokens(source: Checkpoint, form: ListRankerConfig, options: ListRankerOptions) -> int:
    most = _most_tokens(source, form)
    asked = options.max_list_tokens or (_DEFAULT_TOKENS if most is None else min(_DEFAULT_TOKENS, most))
    if most is not None and asked > most:
        raise CheckpointError(
            f"--max-list-tokens {asked}: the checkpoint reads {most} (positions, or max_tokens of its config): ask for "
            "no more"
        )
    return asked


def _most_tokens(source: Checkpoint, form: ListRankerConfig) -> int | None:
    """Counts the tokens of a block that the checkpoint reads; None where it states no limit."""
    known = (position_limit(list_model(source)), form.max_tokens)
    return min((limit for limit in known if limit is not None), default=None)
