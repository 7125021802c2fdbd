"""The prompt of a tagger: the bare text as its tokenizer frames one, or a file's."""

from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.tagger.options import TaggerOptions
from rankport.exporters.options.prompts import ResolvedPrompt, check_prompt_name, resolve_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest


def check_tagger_prompt(checkpoint: Path, options: TaggerOptions) -> None:
    """Raises InvalidRequest for a prompt that is neither file nor preset."""
    check_prompt_name(options.prompt)


def tagger_prompt(source: Checkpoint, options: TaggerOptions) -> ResolvedPrompt:
    """Frames a text.

    Raises:
        CheckpointError: there is no tokenizer.
        InvalidRequest: the prompt has what a tagger cannot have.
    """
    if source.tokenizer_file is None:
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} has no tokenizer.json: a tagger tells places in texts, save it with "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    resolved = resolve_prompt(options.prompt, source.tokenizer_file)
    if resolved.prompt.prefix:
        raise InvalidRequest(f"--prompt {options.prompt}: a tagger has no prefix: leave [[prefix]] out")
    if any(segment.joined for segment in resolved.prompt.item):
        raise InvalidRequest(
            f"--prompt {options.prompt}: a tagger tells places in a text, tokenized by itself: leave joined out"
        )
    if resolved.labels is not None:
        raise InvalidRequest(
            f"--prompt {options.prompt}: labels are those of the checkpoint's config.json (id2label): leave them out"
        )
    return resolved
