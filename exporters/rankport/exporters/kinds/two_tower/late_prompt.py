"""The prompt of late interaction: query and item framed by the tokenizer, with what the folder puts before each."""

from collections.abc import Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.late_interaction.form import LateForm
from rankport.exporters.kinds.two_tower.side_prompts import parts_of, prompt_of_sides, prompted
from rankport.exporters.options.prompts import ResolvedPrompt, framed_prompt
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Segment
from rankport.runtime.prompt.tokenizer import Tokenizer


def late_prompt(source: Checkpoint, form: LateForm) -> ResolvedPrompt:
    """Makes the prompt by which a folder of late interaction reads queries and items.

    Raises CheckpointError for what stands before a text in another way than segments do.
    """
    framed = framed_prompt(source.tokenizer_file)
    tokenizer = framed.tokenizer
    assert tokenizer is not None  # without one no such folder is loaded
    before, (item, *after) = parts_of(framed.prompt.item)
    sides = [
        _marked(before, text, form, tokenizer) if form.inserted else prompted(source, text, item, tokenizer)
        for text in (form.query_prompt, form.item_prompt)
    ]
    query, items = ([*before, *side, *after] for side in sides)
    return prompt_of_sides(query, items, tokenizer)


def _marked(before: Sequence[Segment], mark: str, form: LateForm, tokenizer: Tokenizer) -> list[Segment]:
    """Puts a token behind the first special one."""
    if not mark:
        return [Segment(item=True)]
    if sum(len(segment.special or ()) for segment in before) != 1:
        raise CheckpointError(
            f"{form.where}: the mark {mark!r} is put behind a text's first token, which is none of one special token "
            "that the tokenizer puts before each text: set its post-processor so, as the model was trained"
        )
    if tokenizer.token_id(mark) is None:
        raise CheckpointError(
            f"{form.where}: the mark {mark!r} is no token of tokenizer.json, and PyLate would add one with random "
            "weights: save the model again with the library that trained it"
        )
    return [Segment(special=[mark]), Segment(item=True)]
