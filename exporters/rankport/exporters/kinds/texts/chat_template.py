"""A folder's chat template as sentence-transformers renders it, and the prompt segments that its text is.

Rendered by transformers, in its sandbox, and tokenized as one text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankport.exporters.checkpoints.sentence_transformers.messages import ChatMessages
from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import Segment
from rankport.runtime.prompt.tokenizer import Tokenizer

_FIX = "write the prompt as a file, and give it by --prompt"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The template of a tokenizer, and the messages that it is given."""

    messages: ChatMessages
    inner: Any  # tokenizer, as transformers loads it
    file: Path  # of the tokenizer
    reads: str  # what it makes a text of, in words: pairs, texts

    def text(self, **texts: str) -> str:
        """Renders a message of each role. Raises CheckpointError."""
        rendered: str = self._rendered(texts, tokenize=False)
        return rendered

    def ids(self, **texts: str) -> list[int]:
        """Gives the token ids of a message of each role. Raises CheckpointError."""
        return list(self._rendered(texts, tokenize=True, return_dict=False))

    def told(self, **arguments: str) -> "ChatTemplate":
        """Tells the template more, where the folder says nothing of that name."""
        return replace(
            self, messages=replace(self.messages, arguments={**arguments, **self.messages.arguments})
        )

    def error(self, what: str) -> CheckpointError:
        """Makes the error of a template that no prompt says."""
        return unsaid(self.file, "chat template", self.reads, what)

    def _rendered(self, texts: dict[str, str], **how: bool) -> Any:
        try:
            messages = self.messages.of(texts)
            return self.inner.apply_chat_template(messages, **how, **self.messages.arguments)
        except Exception as error:  # a template raises whatever it likes
            raise self.error(f"cannot be rendered: {reason_of(error)}") from error


def unsaid(file: Path, reader: str, read: str, what: str) -> CheckpointError:
    """Makes the error of what a folder reads texts by, where no prompt says it."""
    return CheckpointError(
        f"{file.parent}: the {reader}, by which sentence-transformers reads {read}, {what}: {_FIX}"
    )


def other_tokens(theirs: Sequence[int], ours: Sequence[int], of: str, tokenizer: Tokenizer) -> str:
    """Says where an owner's tokens and those of a prompt differ; empty where they do not."""
    if list(theirs) == list(ours):
        return ""
    shared = min(len(ours), len(theirs))
    place = next((i for i in range(shared) if ours[i] != theirs[i]), shared)
    return (
        f"makes other tokens of {of}: {len(theirs)}, the prompt {len(ours)}, from token {place} on "
        f"{tokenizer.decode(theirs[place : place + 6])!r} and {tokenizer.decode(ours[place : place + 6])!r}"
    )


def literals(text: str, tokenizer: Tokenizer) -> Iterator[Segment]:
    """Cuts a text into those of its special tokens, which are tokens by themselves, and those between them."""
    names = sorted(filter(None, tokenizer.special_tokens()), key=len, reverse=True)
    special = "|".join(map(re.escape, names))
    for part in re.split(f"((?:{special})+)", text) if special else [text]:
        if special and re.fullmatch(f"(?:{special})+", part):
            yield Segment(special=re.findall(special, part))
        elif part:
            yield Segment(text=part)


def joined(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Joins each segment to the one before it, but beside special tokens, and an item to a query right before it."""
    before: Segment | None = None
    for segment in segments:
        apart = before is None or before.special or segment.special or (segment.item and before.field)
        yield segment if apart else segment.model_copy(update={"joined": True})
        before = segment
