"""The prompt of late interaction: query and item framed by the tokenizer, with what the folder puts before each."""

from collections.abc import Iterator, Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.late_interaction.form import LateForm
from rankport.exporters.checkpoints.own_tokenizer import ids_by, own_tokenizer
from rankport.exporters.options.prompts import ResolvedPrompt, framed_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.prompt_file import validate_prompt
from rankport.runtime.prompt.tokenizer import Tokenizer

QUERY = "query"
"""The field of a query, where no prompt file names others."""
_TEXTS = ("spot welder", "  What does a nurse do?", "Köchin & 東京のコック, ½", "(a) 1,5 %\n- x")


def late_prompt(source: Checkpoint, form: LateForm) -> ResolvedPrompt:
    """Makes the prompt by which a folder of late interaction reads queries and items.

    Raises CheckpointError for what stands before a text in another way than segments do.
    """
    framed = framed_prompt(source.tokenizer_file)
    tokenizer = framed.tokenizer
    assert tokenizer is not None  # without one no such folder is loaded
    before, (item, *after) = _parts(framed.prompt.item)
    sides = [
        _marked(before, text, form, tokenizer) if form.inserted else _prompted(source, text, item, tokenizer)
        for text in (form.query_prompt, form.item_prompt)
    ]
    query, items = ([*before, *side, *after] for side in sides)
    prompt = Prompt(
        prefix=[
            segment.model_copy(update={"item": None, "field": QUERY}) if segment.item else segment
            for segment in query
        ],
        item=items,
    )
    validate_prompt(prompt, tokenizer)
    return ResolvedPrompt(prompt, None, tokenizer)


def _parts(segments: Sequence[Segment]) -> tuple[list[Segment], list[Segment]]:
    place = next(index for index, segment in enumerate(segments) if segment.item)
    return list(segments[:place]), list(segments[place:])


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


def _prompted(source: Checkpoint, text: str, item: Segment, tokenizer: Tokenizer) -> list[Segment]:
    """Puts a text before an item's, so that both are tokenized as transformers tokenizes them in one."""
    if not text:
        return [item]
    file = source.tokenizer_file
    assert file is not None
    own = own_tokenizer(file)
    wanted = ids_by(own, [text + sample for sample in _TEXTS])
    for segments in _ways(text, tokenizer):
        prompt = Prompt(prefix=[], item=segments)
        try:
            validate_prompt(prompt, tokenizer)
        except InvalidRequest:
            continue
        compiled = CompiledPrompt.of(prompt, tokenizer)
        if [compiled.ids([], sample, tokenizer).tolist() for sample in _TEXTS] == wanted:
            return segments
    raise CheckpointError(
        f"{source.path}: no segments give the tokens of the prompt {text!r} and a text behind it as transformers makes "
        "them: end it in a special token or in white space"
    )


def _ways(text: str, tokenizer: Tokenizer) -> Iterator[list[Segment]]:
    """Yields ways to write a prompt before a text: as text, or a special token first."""
    joined = Segment(item=True, joined=True)
    for mark in sorted(tokenizer.special_tokens(), key=len, reverse=True):
        if text.startswith(mark):
            rest = text.removeprefix(mark)
            yield [Segment(special=[mark]), Segment(item=True)]
            if rest:
                yield [Segment(special=[mark]), Segment(text=rest), joined]
            return
    yield [Segment(text=text), joined]
