"""The template of a list ranker's checkpoint beside its tokenizer: what of it is read, its markers, and its tokens."""

from collections.abc import Iterator, Sequence

from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.sections.lists import ListSegment, ListTemplate, Marker
from rankport.runtime.prompt.tokenizer import Tokenizer


def read_part(template: ListTemplate) -> ListTemplate:
    """Leaves out what stands behind the last marker: a decoder's states know nothing of it. The last state is one."""
    if template.alone:
        return template
    marks = [index for index, segment in enumerate(template.tail) if segment.mark is not None]
    tail = template.tail[: marks[-1] + 1] if marks else []
    return template.model_copy(update={"tail": tail})


def marker(name: str, tokenizer: Tokenizer) -> Marker:
    """Looks a marker up. Raises CheckpointError if the tokenizer lacks it."""
    token = tokenizer.token_id(name)
    if token is None:
        raise CheckpointError(
            f"marker {name!r} is no token of the checkpoint's tokenizer: add it, as the model was trained"
        )
    return Marker(token=name, id=token)


def require_tokens(form: ListRankerConfig, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError for a token that the tokenizer lacks, or a literal text that spells one of its own."""
    for name in form.markers:
        marker(name, tokenizer)
    own = {*tokenizer.special_tokens(), *form.markers}
    for where, segment in _segments(form.template):
        for name in segment.special or ():
            if tokenizer.token_id(name) is None:
                raise CheckpointError(f"template.{where}: {name!r} is no token of the checkpoint's tokenizer")
        spelled = next((name for name in own if segment.text is not None and name in segment.text), None)
        if spelled is not None:
            raise CheckpointError(
                f"template.{where}: the text spells the token {spelled!r}, which text never becomes: give it as "
                "special or mark"
            )


def frame_tokens(template: ListTemplate, form: ListRankerConfig, tokenizer: Tokenizer) -> int:
    """Counts the tokens of a block of one item, its values left out; texts by themselves, which is never too few.

    Of a model that reads items alone too, of the longer of the two.
    """
    block = (*template.head, *template.item, *template.tail)
    return max(_own_tokens(segments, form, tokenizer) for segments in (block, template.alone) if segments)


def _own_tokens(segments: Sequence[ListSegment], form: ListRankerConfig, tokenizer: Tokenizer) -> int:
    digits = str(form.max_items + max(segment.number or 0 for segment in segments))
    texts = [segment.text or digits for segment in segments if segment.text or _counts(segment)]
    specials = sum(len(segment.special or ()) + (segment.mark is not None) for segment in segments)
    return len(tokenizer.encode_ragged(texts).ids) + specials


def _counts(segment: ListSegment) -> bool:
    return segment.count is not None or segment.number is not None


def _segments(template: ListTemplate) -> Iterator[tuple[str, ListSegment]]:
    for part in ("head", "item", "tail", "alone"):
        for index, segment in enumerate(getattr(template, part)):
            yield f"{part}[{index}]", segment
