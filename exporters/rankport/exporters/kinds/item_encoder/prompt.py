"""The prompt of an item encoder: a file's, a sentence-transformers folder's, or the bare item."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import (
    CONFIG_FILE,
    EncoderFolder,
    read_encoder_folder,
)
from rankport.exporters.checkpoints.sentence_transformers.modules import transformer_folder
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.texts.folder_prompt import folder_prompt
from rankport.exporters.options.presets import BARE
from rankport.exporters.options.prompts import (
    ResolvedPrompt,
    check_prompt_name,
    framed_prompt,
    resolve_prompt,
)
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.options.stated_prompt import chat_template_file
from rankport.protos.errors import CheckpointError, InvalidRequest


def check_item_encoder_prompt(checkpoint: Path, options: ItemEncoderOptions) -> None:
    """Raises InvalidRequest for a prompt that is neither file nor preset."""
    check_prompt_name(options.prompt)


def item_encoder_prompt(source: Checkpoint, options: ItemEncoderOptions) -> ResolvedPrompt:
    """Takes the prompt that is named, which has an item part alone, or makes one of the bare item.

    A sentence-transformers folder puts its default prompt, or the one of `prompt_name`, before the item, as one text.
    A chat template is used where the folder says that texts are its messages. Embedding models that carry another one
    read bare texts; the manifest notes it.
    """
    folder = read_encoder_folder(source.path)
    if options.prompt is not None:
        return _named(options.prompt, source, folder)
    if folder is not None:
        _require_instruction(source, folder, options.prompt_name)
        resolved = folder_prompt(source, folder, options.prompt_name)
        notes = folder.notes(options.prompt_name)
        doubt = folder.document_prompt_doubt(options.prompt_name)
        resolved = replace(resolved, doubts=(*resolved.doubts, *([doubt] if doubt else [])))
    elif options.prompt_name is not None:
        raise InvalidRequest(
            f"--prompt-name {options.prompt_name!r}: checkpoint {str(source.path)!r} has no modules.json of "
            "sentence-transformers, and so no prompts by name: give --prompt"
        )
    else:
        resolved, notes = framed_prompt(source.tokenizer_file), ()
    template = chat_template_file(transformer_folder(source.path))
    if template is not None and (folder is None or folder.transformer.messages is None):
        notes += (
            f"prompt: the chat template of {template.name} is not used: an item encoder reads bare texts",
        )
    return replace(resolved, notes=notes)


def _require_instruction(source: Checkpoint, folder: EncoderFolder, prompt_name: str | None) -> None:
    """Raises CheckpointError where a task's text is one in config.json and another among the folder's prompts."""
    if source.instruction is not None and (prompt := folder.prompt(prompt_name)) != source.instruction:
        raise CheckpointError(
            f"{source.config_file}: task_instructions puts {source.instruction!r} before a text of {source.task}, and "
            f"the prompts of {CONFIG_FILE} {prompt!r}: correct the wrong one"
        )


def reads_queries(source: Checkpoint, resolved: ResolvedPrompt, options: ItemEncoderOptions) -> bool:
    """Tells whether a query is read as an item is: no text is for either, and the weights are of no one task.

    A prompt file's special tokens, other than the tokenizer's own frame, may tell items from queries as texts do.
    """
    folder = read_encoder_folder(source.path)
    prompts = {} if folder is None else folder.prompts
    texts = [segment for segment in resolved.prompt.item if segment.text is not None]
    if source.task is not None or texts or any(prompts.values()):
        return False
    return options.prompt is None or _is_framed(source, resolved)


def _is_framed(source: Checkpoint, resolved: ResolvedPrompt) -> bool:
    """Tells whether a prompt has around its item what the tokenizer puts around a text."""
    with suppress(CheckpointError):  # a frame that no prompt can say
        framed = framed_prompt(source.tokenizer_file)
        ours, own = ([each.special for each in has.prompt.item] for has in (resolved, framed))
        return ours == own
    return False


def skipped_tokens(source: Checkpoint, resolved: ResolvedPrompt, options: ItemEncoderOptions) -> int:
    """Counts the first tokens of an item that the folder's pooling leaves out: none, or all up to its prompt's end.

    As sentence-transformers counts: the prompt alone, framed, without its last token if that is a special one.
    """
    folder = read_encoder_folder(source.path)
    if folder is None or folder.pooling.include_prompt or options.prompt is not None:
        return 0
    if folder.transformer.messages is not None:
        return 0  # of messages sentence-transformers pools all
    text = folder.prompt(options.prompt_name)
    if not text or resolved.tokenizer is None:
        return 0
    special = [segment.special for segment in resolved.prompt.item if segment.special is not None]
    tokens = sum(map(len, special)) + len(resolved.tokenizer.encode_batch([text])[0])
    ends_special = resolved.prompt.item[-1].special is not None
    return tokens - 1 if ends_special else tokens


def _named(named: StrPath, source: Checkpoint, folder: EncoderFolder | None) -> ResolvedPrompt:
    if folder is not None and not folder.pooling.include_prompt and str(named) != BARE:
        raise InvalidRequest(
            f"--prompt {named}: the folder's pooling leaves its own prompts out (include_prompt is false): pick one of "
            "them with --prompt-name"
        )
    resolved = resolve_prompt(named, source.tokenizer_file)
    if resolved.prompt.prefix:
        raise InvalidRequest(f"{named}: an item encoder has no prefix: leave [[prefix]] out")
    return resolved
