"""The plan of an encoder-decoder that writes: prompt, limits, the rules of a text, and its graphs."""

from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders
from rankport.exporters.kinds.seq2seq.families import ARCHITECTURES, Seq2SeqFamily, family_of, not_exported
from rankport.exporters.kinds.seq2seq.graphs import seq2seq_graphs
from rankport.exporters.kinds.seq2seq.options import Seq2SeqOptions
from rankport.exporters.kinds.seq2seq.stated import stated_generation, stated_max_tokens
from rankport.exporters.kinds.stated_writing import OWN_ENDS
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt, check_prompt_name, resolve_prompt
from rankport.exporters.options.stated_prompt import require_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import LayerKV, Limits, ModelShape, Prompt, Segment

_DEFAULT_SOURCE, _DEFAULT_TEXT = 512, 128


def check_seq2seq(checkpoint: Path, options: Seq2SeqOptions) -> None:
    """Checks what the folder says before any weight is read.

    Raises:
        CheckpointError: the class is of no family that is exported.
        InvalidRequest: for a prompt that is none, or for none where the folder says that there is one.
    """
    base = None if options.base is None else Path(options.base)
    model = StatedModel.read(checkpoint, base)
    if model.architecture not in ARCHITECTURES:
        raise CheckpointError(not_exported(model.architecture))
    if options.prompt is None:
        require_prompt(checkpoint, speaking_folders(checkpoint, base))
    check_prompt_name(options.prompt)


def seq2seq_prompt(source: Checkpoint | StatedModel, options: Seq2SeqOptions) -> ResolvedPrompt:
    """Takes the prompt that is named, or frames one field "prefix" as the tokenizer frames a text.

    Raises InvalidRequest for a prompt file with something around the item, which is what the model writes.
    """
    resolved = resolve_prompt(options.prompt, source.tokenizer_file, ("prefix",))
    prefix, item = list(resolved.prompt.prefix), list(resolved.prompt.item)
    places = [place for place, segment in enumerate(item) if segment.item is not None]
    if options.prompt is None and places:
        # The frame's end belongs to the text that is read.
        prefix, item = [*prefix, *item[places[0] + 1 :]], [item[places[0]]]
    if len(item) > 1:
        raise InvalidRequest(
            f"--prompt {options.prompt}: item is what an encoder-decoder writes, and nothing stands around it: move "
            "its other segments to prefix, or leave them out"
        )
    prompt = Prompt(prefix=prefix, item=item or [Segment(item=True)])
    return ResolvedPrompt(prompt, None, resolved.tokenizer, resolved.notes)


def plan_seq2seq(source: Checkpoint, prompt: ResolvedPrompt, options: Seq2SeqOptions) -> ExportPlan:
    """Plans the export. Raises CheckpointError if it cannot be exported exactly, InvalidRequest for a wrong option."""
    family = family_of(source.model)
    layer = LayerKV(kv_heads=family.heads, head_dim=family.head_dim)
    return ExportPlan(
        shape=ModelShape(
            hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[layer] * family.layers
        ),
        limits=_limits(family, source, options),
        generation=stated_generation(source, options.stop_ids),
        overrides=() if options.stop_ids is None else (OWN_ENDS,),
        graphs=seq2seq_graphs,
    )


def _limits(family: Seq2SeqFamily, source: Checkpoint, options: Seq2SeqOptions) -> Limits:
    """Chooses limits within the positions. Raises CheckpointError if those asked for exceed them."""
    most = family.max_tokens
    for name in ("max_prefix_tokens", "max_item_tokens"):
        asked = getattr(options, name)
        if most is not None and asked is not None and asked > most:
            raise CheckpointError(
                f"--{name.replace('_', '-')} {asked}: exceeds the checkpoint's position encodings of {most} tokens: "
                "ask for less"
            )
    text = options.max_item_tokens or stated_max_tokens(source) or _DEFAULT_TEXT
    return Limits(
        max_prefix_tokens=options.max_prefix_tokens or min(most or _DEFAULT_SOURCE, _DEFAULT_SOURCE),
        max_item_tokens=text if most is None else min(text, most),
    )
