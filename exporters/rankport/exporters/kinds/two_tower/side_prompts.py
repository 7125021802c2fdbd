"""The segments of queries and of items, made of the text that a folder puts before each."""

from collections.abc import Iterator, Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.own_tokenizer import ids_by, own_tokenizer
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.prompt_file import validate_prompt
from rankport.runtime.prompt.tokenizer import Tokenizer

QUERY = "query"
"""The field of a query, where no prompt file names others."""
_TEXTS = ("spot welder", "  What does a nurse do?", "Köchin & 東京のコック, ½", "(a) 1,5 %\n- x")


def prompt_of_sides(
    query: Sequence[Segment], items: Sequence[Segment], tokenizer: Tokenizer
) -> ResolvedPrompt:
    """Makes a prompt whose prefix is a query, of segments around its text as if it were an item's."""
    prompt = Prompt(
        prefix=[
            segment.model_copy(update={"item": None, "field": QUERY}) if segment.item else segment
            for segment in query
        ],
        item=list(items),
    )
    validate_prompt(prompt, tokenizer)
    return ResolvedPrompt(prompt, None, tokenizer)


def parts_of(segments: Sequence[Segment]) -> tuple[list[Segment], list[Segment]]:
    """Parts the segments before a text from those of it and behind."""
    place = next(index for index, segment in enumerate(segments) if segment.item)
    return list(segments[:place]), list(segments[place:])


def prompted(source: Checkpoint, text: str, item: Segment, tokenizer: Tokenizer) -> list[Segment]:
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
