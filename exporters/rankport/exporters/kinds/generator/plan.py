"""The plan of a generator: prompt, limits, what ends a text, and its graph."""

from functools import partial
from pathlib import Path

from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.decoders.graphs import export_decoder_graphs
from rankport.exporters.kinds.decoders.module import PackedDecoder, RowDecoder
from rankport.exporters.kinds.decoders.step_attention import StepPrefix
from rankport.exporters.kinds.decoders.survey import Survey, survey
from rankport.exporters.kinds.generator.chat.chat import chat_prompt, read_chat
from rankport.exporters.kinds.generator.options import GeneratorOptions
from rankport.exporters.kinds.generator.stated import stated_generation
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.kinds.stated_writing import OWN_ENDS
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.presets import CHAT
from rankport.exporters.options.prompts import ResolvedPrompt, check_prompt_name, resolve_prompt, tokenizer_of
from rankport.exporters.options.stated_prompt import require_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Limits, ModelShape, Precision, Prompt, Score, Segment, Target

_SCORES = {
    "whole": Score(kind="log_likelihood", transform="with-end"),
    "beginning": Score(kind="log_likelihood", transform="none"),
}
_DEFAULT_PROMPT, _DEFAULT_TEXT = 1024, 512


def check_generator(checkpoint: Path, options: GeneratorOptions) -> None:
    """Checks what the folder says before any weight is read.

    Raises:
        CheckpointError: the class is no decoder with an LM head.
        InvalidRequest: for a prompt that is none, or for none where the folder says that there is one.
    """
    base = None if options.base is None else Path(options.base)
    model = StatedModel.read(checkpoint, base)
    if model.head != "lm_head":
        raise CheckpointError(
            f"{model.architecture} writes no text from left to right: --kind generator takes decoders with an LM head "
            "(...ForCausalLM)"
        )
    if model.reads_both_ways:
        raise CheckpointError(
            f"{model.architecture} reads both ways, by the word of config.json: it writes no text from left to right"
        )
    if options.prompt is None:
        require_prompt(
            checkpoint, speaking_folders(checkpoint, base), f"--prompt {CHAT} takes the template; else "
        )
    if not options.is_chat:
        check_prompt_name(options.prompt)


def generator_prompt(source: Checkpoint | StatedModel, options: GeneratorOptions) -> ResolvedPrompt:
    """Takes the prompt that is named, or makes one of one field "prefix"; what is written comes behind it.

    Raises InvalidRequest for a prompt file with something around the item, which is what the model writes; as
    `read_chat` for the chat template.
    """
    if options.is_chat:
        return _chat(source.tokenizer_file, options)
    resolved = resolve_prompt(options.prompt, source.tokenizer_file, ("prefix",))
    item = [segment for segment in resolved.prompt.item if segment.item is not None]
    if options.prompt is not None and len(resolved.prompt.item) != 1:
        raise InvalidRequest(
            f"--prompt {options.prompt}: item is what a generator writes, and nothing stands around it: move its other "
            "segments to the end of prefix, or leave them out"
        )
    # The frame's end, an end-of-text token say, is the model's own to write.
    prompt = Prompt(prefix=resolved.prompt.prefix, item=item or [Segment(item=True)])
    return ResolvedPrompt(prompt, None, resolved.tokenizer, resolved.notes)


def _chat(file: Path | None, options: GeneratorOptions) -> ResolvedPrompt:
    tokenizer = tokenizer_of(file)
    chat = read_chat(file, tokenizer, options.chat_arguments(), options.chat_day())
    return ResolvedPrompt(chat_prompt(chat), None, tokenizer, chat=chat)


def plan_generator(source: Checkpoint, prompt: ResolvedPrompt, options: GeneratorOptions) -> ExportPlan:
    """Plans a generator. Raises CheckpointError if it cannot be exported exactly, InvalidRequest for a wrong option."""
    facts = survey(_module(source, "onnx-cpu"))
    limits = _limits(facts, options)
    return ExportPlan(
        shape=ModelShape(
            hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=list(facts.layers)
        ),
        limits=limits,
        generation=stated_generation(source, options.stop_ids),
        overrides=() if options.stop_ids is None else (OWN_ENDS,),
        score=None if options.scores is None else _SCORES[options.scores],
        graphs=partial(_graphs, facts, limits),
    )


def _module(source: Checkpoint, target: Target) -> PackedDecoder | RowDecoder:
    head = source.model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(head, nn.Module):
        raise CheckpointError(f"{source.architecture} has no LM head")
    everything = ReadOut("lm_head", tuple(range(source.vocab_size)))
    if target == "onnx-cuda":
        # Not by the one kernel: for a single token it would copy the whole past, once for each head that shares it.
        return RowDecoder(source.model, everything, embeddings=False, fused=False, head=head)
    return PackedDecoder(source.model, everything, embeddings=False, head=head, attention=StepPrefix)


def _limits(facts: Survey, options: GeneratorOptions) -> Limits:
    """Chooses limits within positions. Raises CheckpointError if those asked for exceed them."""
    known = (facts.bound, facts.max_positions, _DEFAULT_PROMPT + _DEFAULT_TEXT)
    total = min(limit for limit in known if limit is not None)
    prompt, text = options.max_prefix_tokens, options.max_item_tokens
    if text is None:
        text = max(1, min(_DEFAULT_TEXT, total // 2 if prompt is None else total - prompt))
    if prompt is None:
        prompt = max(1, min(_DEFAULT_PROMPT, total - text))
    facts.check_length(prompt, text)
    return Limits(max_prefix_tokens=prompt, max_item_tokens=text)


def _graphs(
    facts: Survey, limits: Limits, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    module = _module(source, target)
    module.windows = facts.windows_within(limits)
    return export_decoder_graphs(module, facts, form="decode", target=target, precision=precision)
