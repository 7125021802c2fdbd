"""Pairs of a CrossEncoder's folder as sentence-transformers reads them: the prompt that says so, held against them.

Where the folder says that a pair is a chat, query and document are a message each of that role, its chat template is
rendered by transformers, in its sandbox, and the whole is tokenized at once. Else the tokenizer frames the two texts,
with the folder's default prompt before the query.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.checkpoints.sentence_transformers.messages import PairMessages
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.texts.pairs.frame import FIRST_FIELD, PairTokenizer
from rankport.exporters.options.stated_prompt import chat_template_file
from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer

BARE_FIELD = "prefix"
"""Name of the one field of a prompt that nobody gave."""
_QUERY, _DOCUMENT = "\ue000query\ue001", "\ue000document\ue001"  # of a private plane: no template has them
_PAIRS = (
    ("resistance welder", "spot welder"),
    ("What does a nurse do?", "Cares for patients.\n\nIn hospitals, too."),
    ("  spaces around ", " and\tbetween "),
    ("Köchin & Söhne", "東京のコック, ½"),
    ("(a) 1,5 %", "- x\n- y\n"),
)
_FIX = "write the prompt as a file, and give it by --prompt"


@dataclass(frozen=True, slots=True)
class OwnersPairs:
    """The tokenizer of a folder, the messages that a pair is, if it is some, and the text before it, if it is none."""

    messages: PairMessages | None
    before: str  # the query, as one text with it; of messages a part
    inner: Any  # as transformers loads it
    file: Path

    @classmethod
    def of(cls, source: Checkpoint | StatedModel) -> Self | None:
        """Reads a folder; None of one that sentence-transformers did not write, or does not say how it reads pairs.

        Raises CheckpointError for messages that cannot be exported, or without a tokenizer.
        """
        folder = CrossEncoderFolder.read(source.path)
        if folder.messages is None and (not folder.is_own or _is_unsaid(source)):
            return None
        if source.tokenizer_file is None:
            raise CheckpointError(
                f"{source.path}: pairs are messages of a chat template, and no tokenizer.json reads them"
            )
        return cls(
            folder.messages, folder.prompt, own_tokenizer(source.tokenizer_file), source.tokenizer_file
        )

    def prompt(self, tokenizer: Tokenizer) -> Prompt:
        """Makes the prompt by which a ranker reads the same tokens. Raises CheckpointError where none does."""
        prompt = self._framed(tokenizer) if self.messages is None else self._of_template(tokenizer)
        if difference := self.difference(prompt, tokenizer):
            raise self._unsaid(difference)
        return prompt

    @property
    def name(self) -> str:
        """Reader of a pair, in words."""
        if self.messages is not None:
            return "chat template"
        return f"default prompt {self.before!r}" if self.before else "tokenizer"

    @property
    def says_texts(self) -> bool:
        """Tells whether it puts texts around a pair, not a frame alone."""
        return self.messages is not None or bool(self.before)

    def _framed(self, tokenizer: Tokenizer) -> Prompt:
        """Takes the tokenizer's frame of two texts; the field has the name that it has in any bare prompt."""
        frame = PairTokenizer(self.inner, self.file).frame().prompt
        prefix: list[Segment] = []
        for segment in frame.prefix:
            if segment.field is None:
                prefix.append(segment)
                continue
            query = segment.model_copy(update={"field": BARE_FIELD})
            prefix += _joined([*_literals(self.before, tokenizer), query])
        return Prompt(prefix=prefix, item=frame.item)

    def _of_template(self, tokenizer: Tokenizer) -> Prompt:
        """Reads the prompt off the text that the template makes of a pair."""
        text = self._rendered(_QUERY, _DOCUMENT, tokenize=False)
        before, query, rest = text.partition(_QUERY)
        between, document, after = rest.partition(_DOCUMENT)
        if not (query and document) or _QUERY in rest or _DOCUMENT in before + after:
            raise self._unsaid("does not have the text of the query once, and behind it that of the document")
        prefix = [*_literals(before, tokenizer), Segment(field=FIRST_FIELD), *_literals(between, tokenizer)]
        item = [Segment(item=True), *_literals(after, tokenizer)]
        joined = [*_joined([*prefix, *item])]
        return Prompt(prefix=joined[: len(prefix)], item=joined[len(prefix) :])

    def difference(self, prompt: Prompt, tokenizer: Tokenizer) -> str:
        """Says of which pair a prompt makes other tokens than the owner; empty where of none that is tried."""
        compiled = CompiledPrompt.of(prompt, tokenizer)
        for query, document in _PAIRS:
            theirs = self._ids(query, document)
            ours = compiled.ids([query] * len(prompt.fields), document, tokenizer).tolist()
            if ours != theirs:
                place = next(
                    (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
                    min(len(ours), len(theirs)),
                )
                return (
                    f"makes other tokens of {query!r} and {document!r}: {len(theirs)}, the prompt {len(ours)}, from "
                    f"token {place} on {tokenizer.decode(theirs[place : place + 6])!r} and "
                    f"{tokenizer.decode(ours[place : place + 6])!r}"
                )
        return ""

    def _ids(self, query: str, document: str) -> list[int]:
        if self.messages is None:
            return list(self.inner(self.before + query, document)["input_ids"])
        return list(self._rendered(query, document, tokenize=True, return_dict=False))

    def _rendered(self, query: str, document: str, **how: bool) -> Any:
        assert self.messages is not None
        try:
            return self.inner.apply_chat_template(
                self.messages.of(query, document), **how, **self.messages.arguments
            )
        except Exception as error:  # a template raises whatever it likes
            raise self._unsaid(f"cannot be rendered: {reason_of(error)}") from error

    def _unsaid(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.file.parent}: the {self.name}, by which sentence-transformers reads pairs, {what}: {_FIX}"
        )


def _is_unsaid(source: Checkpoint | StatedModel) -> bool:
    """Tells whether a folder has what sentence-transformers would guess by, or that pairs are ids alone."""
    file = source.tokenizer_file
    return file is None or source.head == "none" or chat_template_file(file.parent) is not None


def _literals(text: str, tokenizer: Tokenizer) -> Iterator[Segment]:
    """Cuts a text into those of its special tokens, which are tokens by themselves, and those between them."""
    names = sorted(filter(None, tokenizer.special_tokens()), key=len, reverse=True)
    special = "|".join(map(re.escape, names))
    for part in re.split(f"((?:{special})+)", text) if special else [text]:
        if special and re.fullmatch(f"(?:{special})+", part):
            yield Segment(special=re.findall(special, part))
        elif part:
            yield Segment(text=part)


def _joined(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Joins each segment to the one before it, but beside special tokens, and an item to a query right before it."""
    before: Segment | None = None
    for segment in segments:
        apart = before is None or before.special or segment.special or (segment.item and before.field)
        yield segment if apart else segment.model_copy(update={"joined": True})
        before = segment
