"""The prompt by which a sentence-transformers folder reads a text."""

import json
from pathlib import Path
from typing import Literal

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.exporters.checkpoints.sentence_transformers.folder import EncoderFolder
from rankport.exporters.kinds.texts.chat_template import ChatTemplate, joined, literals, other_tokens
from rankport.exporters.options.prompts import ResolvedPrompt, framed_prompt, tokenizer_of
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.prompt_file import validate_prompt

_ITEM = "\ue000item\ue001"  # of a private plane: no template has it
_TASKS = ("query", "document")
_TEXTS = (
    "spot welder",
    "What does a nurse do?\n\nCares for patients.",
    "  spaces around\t",
    "Köchin & 東京のコック, ½",
    "(a) 1,5 %\n- x\n",
)


def folder_prompt(source: Checkpoint, folder: EncoderFolder, prompt_name: str | None) -> ResolvedPrompt:
    """Makes the prompt that sentence-transformers would encode a text by. Raises CheckpointError or InvalidRequest."""
    if folder.transformer.lower_case and source.tokenizer_file is not None:
        require_lower_case(source.tokenizer_file, folder)
    if folder.transformer.messages is not None:
        return _templated(source, folder, folder.prompt(prompt_name))
    framed = framed_prompt(source.tokenizer_file)
    text = folder.prompt(prompt_name)
    if text and framed.tokenizer is None:
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} has the prompt {text!r} and no tokenizer.json to read it with"
        )
    if text and folder.transformer.keep == "end":
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} cuts texts at their left, so that a cut takes the prompt {text!r} first: "
            "set truncation_side to right in tokenizer_config.json, or leave the prompt out of its prompts"
        )
    segments = [
        part for segment in framed.prompt.item for part in _around(segment, text, folder.transformer.keep)
    ]
    prompt = Prompt(prefix=[], item=segments)
    validate_prompt(prompt, framed.tokenizer)
    return ResolvedPrompt(prompt, None, framed.tokenizer)


def _templated(source: Checkpoint, folder: EncoderFolder, text: str) -> ResolvedPrompt:
    """Reads the prompt off what the chat template makes of a message of `user`, and the folder's of `system`."""
    file, messages = source.tokenizer_file, folder.transformer.messages
    tokenizer = tokenizer_of(file)
    if file is None or tokenizer is None or messages is None:
        raise CheckpointError(
            f"{source.path}: texts are messages of a chat template, and no tokenizer.json reads them"
        )
    template = ChatTemplate(messages, own_tokenizer(file), file, "texts")
    rendered = template.text(system=text, user=_ITEM)
    before, item, after = rendered.partition(_ITEM)
    if not item or _ITEM in after:
        raise template.error("does not have the text once")
    behind = [*literals(after, tokenizer)]
    prompt = Prompt(prefix=[], item=[*joined([*literals(before, tokenizer), Segment(item=True), *behind])])
    compiled = CompiledPrompt.of(prompt, tokenizer)
    for sample in _TEXTS:
        ours = compiled.ids([], sample, tokenizer).tolist()
        if difference := other_tokens(template.ids(system=text, user=sample), ours, repr(sample), tokenizer):
            raise template.error(difference)
    if behind and behind[0].special is None:
        # sentence-transformers writes it over the last tokens; here a text is cut so that both are one text.
        raise template.error(
            f"has {behind[0].text!r} right behind a text, no special token, so that one over the limit is cut otherwise"
        )
    others = [task for task in _TASKS if template.told(task=task).text(system=text, user=_ITEM) != rendered]
    doubts = [
        f"prompt: the chat template makes another text where it is told the task {task}, as by encode_{task} of "
        f"sentence-transformers; encode, as the bundle, tells it none: for the former say "
        f'"task": "{task}" in processing_kwargs.chat_template of {folder.transformer.config_file.name}'
        for task in others
    ]
    return ResolvedPrompt(prompt, None, tokenizer, doubts=tuple(doubts))


def _around(segment: Segment, text: str, keep: Literal["start", "end"]) -> list[Segment]:
    """Puts the prompt's text before the item's segment, and leaves others as they are."""
    if segment.item is None:
        return [segment]
    if not text:
        return [Segment(item=True, keep=keep)]
    return [Segment(text=text), Segment(item=True, keep=keep, joined=True)]


def require_lower_case(tokenizer_file: Path, folder: EncoderFolder) -> None:
    """Raises CheckpointError where a folder lowercases texts and its tokenizer does not."""
    normalizer = json.loads(tokenizer_file.read_text(encoding="utf-8")).get("normalizer")
    parts = [normalizer, *(normalizer or {}).get("normalizers", [])]
    if any(part and (part["type"] == "Lowercase" or part.get("lowercase")) for part in parts):
        return
    raise CheckpointError(
        f"{folder.transformer.config_file}: do_lower_case is true, and {tokenizer_file} does not lowercase: put a "
        'normalizer {"type": "Lowercase"} first in it'
    )
