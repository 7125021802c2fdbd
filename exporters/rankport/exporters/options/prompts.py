"""The prompt of an export: a file, a preset, or framed as the checkpoint's tokenizer frames a text."""

import itertools
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from rankport.exporters.options.presets import BARE, prompt_file_of
from rankport.exporters.options.request_files import StrPath
from rankport.protos.errors import BundleError, CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Chat, Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.prompt_file import load_prompt_file, validate_prompt
from rankport.runtime.prompt.tokenizer import Tokenizer

_WORDS = (*string.ascii_letters, *string.digits, "what", "is it", "the", "new", "job", "我")
"""Values that a text before them may be joined to."""
_UNKNOWN = "\U0010fffd"  # of no script: for private use


@dataclass(frozen=True, slots=True)
class ResolvedPrompt:
    """The prompt of the bundle, the labels its file names, and the checkpoint's tokenizer."""

    prompt: Prompt
    labels: list[str] | None
    tokenizer: Tokenizer | None
    notes: tuple[str, ...] = ()  # what its owner should know, for the manifest
    doubts: tuple[str, ...] = ()  # what is found beside the prompt itself
    chat: Chat | None = None  # of which the prompt is one message

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lists what is probably not as the model was trained."""
        if self.tokenizer is None:
            return self.doubts
        return (
            *self.doubts,
            *spaces_apart(self.prompt, self.tokenizer),
            *inexact_edge(self.prompt, self.tokenizer),
        )


def resolve_prompt(
    named: StrPath | None,
    tokenizer_file: Path | None,
    fields: tuple[str, ...] = (),
    *,
    item_fields: bool = False,
) -> ResolvedPrompt:
    """Takes the prompt that `--prompt` names, or frames the fields and the bare item.

    Raises InvalidRequest if there is none of that name, it does not fit the tokenizer, or a field stands in the item's
    segments where no `item_fields` are read.
    """
    if named is None or str(named) == BARE:
        return framed_prompt(tokenizer_file, fields)
    file = prompt_file_of(str(named))
    resolved = prompt_from_file(file, tokenizer_file)
    if resolved.prompt.item_fields and not item_fields:
        raise InvalidRequest(
            f"{file}: field {resolved.prompt.item_fields[0]!r} stands in the item's segments, which only --kind ranker "
            "reads: put it into the prefix's"
        )
    return resolved


def check_prompt_name(named: StrPath | None) -> None:
    """Raises InvalidRequest for a prompt that is neither file nor preset, or a file that cannot be used."""
    if named is not None and str(named) != BARE:
        load_prompt_file(prompt_file_of(str(named)))


def spaces_apart(prompt: Prompt, tokenizer: Tokenizer) -> Iterator[str]:
    """Warns of each text that ends in white space before a value which the tokenizer would have joined to it."""
    segments = [("prefix", index, segment) for index, segment in enumerate(prompt.prefix)]
    segments += [("item", index, segment) for index, segment in enumerate(prompt.item)]
    for (part, index, segment), (_, _, after) in itertools.pairwise(segments):
        text = segment.text
        if text is None or not text[-1].isspace() or after.is_literal or after.joined:
            continue
        if _differs_apart(text, tokenizer):
            value = "the item" if after.item else f"field {after.field!r}"
            yield (
                f"prompt: {part}[{index}] text {text[-20:]!r} ends in white space and is tokenized apart from {value}, "
                f"which makes other tokens than one text does: say joined = true at {value}, unless the model was "
                "trained on segments tokenized apart"
            )


def _differs_apart(text: str, tokenizer: Tokenizer) -> bool:
    """Tells whether a word behind a text gives other tokens than the two by themselves."""
    alone, *runs = tokenizer.encode_batch([text, *_WORDS, *(text + word for word in _WORDS)])
    apart, together = runs[: len(_WORDS)], runs[len(_WORDS) :]
    return any([*alone, *word] != whole.tolist() for word, whole in zip(apart, together, strict=True))


def inexact_edge(prompt: Prompt, tokenizer: Tokenizer) -> Iterator[str]:
    """Warns of an edge from prefix to item that no cut makes exact: a token would reach over it."""
    edge = CompiledPrompt.of(prompt, tokenizer).edge if prompt.item[0].joined else None
    if edge is not None and edge.exact < edge.tried:
        yield (
            f"prompt: the edge from prefix to item gives the tokens of one text for {edge.exact} of {edge.tried} tried "
            f"values: prefix and item are cut between {edge.stable[-20:]!r} and {edge.rest[:20]!r}; end the prefix in "
            "white space or punctuation"
        )


def prompt_from_file(file: Path, tokenizer_file: Path | None) -> ResolvedPrompt:
    """Reads a prompt file. Raises InvalidRequest if it does not fit the tokenizer."""
    content = load_prompt_file(file)
    tokenizer = tokenizer_of(tokenizer_file)
    validate_prompt(content.prompt, tokenizer)
    return ResolvedPrompt(content.prompt, content.labels, tokenizer)


def framed_prompt(tokenizer_file: Path | None, fields: tuple[str, ...] = ()) -> ResolvedPrompt:
    """Makes a prompt of the prefix's fields and the bare item, framed as the tokenizer frames a text."""
    before, after = _framing(tokenizer_file)
    prefix = [Segment(field=field) for field in fields]
    if prefix:
        prompt = Prompt(prefix=[*before, *prefix], item=[Segment(item=True), *after])
    else:
        prompt = Prompt(prefix=[], item=[*before, Segment(item=True), *after])
    return ResolvedPrompt(prompt, None, tokenizer_of(tokenizer_file))


def tokenizer_of(file: Path | None) -> Tokenizer | None:
    """Reads a checkpoint's tokenizer. Raises CheckpointError."""
    if file is None:
        return None
    try:
        tokenizer = Tokenizer.from_file(file)
    except BundleError as error:
        raise CheckpointError(str(error)) from error
    try:
        tokenizer.encode_ragged([_UNKNOWN])
    except InvalidRequest as error:
        raise CheckpointError(
            f"{file}: has no token for what is unknown to it, with which no other text than that of its vocabulary can "
            "be read: add one (unk_token, of a Unigram unk_id), or remove the file to score by token ids"
        ) from error
    return tokenizer


def word_of(inner: tokenizers.Tokenizer) -> str:
    """Gives a text that a tokenizer makes tokens of, to find them in a frame: a letter, or one of its vocabulary.

    Raises CheckpointError if there is none.
    """
    ids = sorted(inner.get_vocab(with_added_tokens=False).values())
    texts = itertools.chain(("a",), (inner.decode([token]).strip() for token in ids))
    word = next((text for text in texts if inner.encode(text, add_special_tokens=False).ids), None)
    if word is None:
        raise CheckpointError("tokenizer.json makes tokens of no text: save the model's own tokenizer")
    return word


def _framing(tokenizer_file: Path | None) -> tuple[list[Segment], list[Segment]]:
    """Finds the special tokens that the tokenizer's own post-processor puts before and after a text."""
    if tokenizer_file is None:
        return [], []
    tokenizer_of(tokenizer_file)
    inner = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    # Some files have padding built in, which is no part of the frame.
    inner.no_padding()
    inner.no_truncation()
    word = word_of(inner)
    bare, framed = inner.encode(word, add_special_tokens=False).tokens, inner.encode(word).tokens
    start = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), None)
    if start is None:
        raise CheckpointError(
            f"{tokenizer_file} frames a text in a way that no prompt can say: give --prompt"
        )
    before, after = framed[:start], framed[start + len(bare) :]
    return ([Segment(special=before)] if before else []), ([Segment(special=after)] if after else [])
