"""The prompt of a CrossEncoder's folder whose pairs are messages: read off its chat template, and held against it.

sentence-transformers renders a pair by the template, query and document each a message of that role, and tokenizes the
whole at once. The template is rendered by transformers, in its sandbox.
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
from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer

FIELD = "query"
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
class PairTemplate:
    """A folder's chat template and what it is given."""

    messages: PairMessages
    inner: Any  # the tokenizer, as transformers loads it
    folder: Path

    @classmethod
    def of(cls, source: Checkpoint | StatedModel) -> Self | None:
        """Finds that of a folder; None where its pairs are no messages. Raises CheckpointError without a tokenizer."""
        messages = CrossEncoderFolder.read(source.path).messages
        if messages is None:
            return None
        if source.tokenizer_file is None:
            raise CheckpointError(
                f"{source.path}: pairs are messages of a chat template, and no tokenizer.json reads them"
            )
        return cls(messages, own_tokenizer(source.tokenizer_file), source.path)

    def prompt(self, tokenizer: Tokenizer) -> Prompt:
        """Reads the prompt off the text that the template makes of a pair.

        Raises CheckpointError where no prompt says what it does.
        """
        text = self._rendered(_QUERY, _DOCUMENT, tokenize=False)
        before, query, rest = text.partition(_QUERY)
        between, document, after = rest.partition(_DOCUMENT)
        if not (query and document) or _QUERY in rest or _DOCUMENT in before + after:
            raise self._unsaid("does not have the text of the query once, and behind it that of the document")
        prefix = [*_literals(before, tokenizer), Segment(field=FIELD), *_literals(between, tokenizer)]
        item = [Segment(item=True), *_literals(after, tokenizer)]
        joined = [*_joined([*prefix, *item])]
        prompt = Prompt(prefix=joined[: len(prefix)], item=joined[len(prefix) :])
        difference = self.difference(prompt, tokenizer)
        if difference:
            raise self._unsaid(difference)
        return prompt

    def difference(self, prompt: Prompt, tokenizer: Tokenizer) -> str:
        """Says of which pair a prompt makes other tokens than the template; empty where of none that is tried."""
        compiled = CompiledPrompt.of(prompt, tokenizer)
        for query, document in _PAIRS:
            theirs = list(self._rendered(query, document, tokenize=True, return_dict=False))
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

    def _rendered(self, query: str, document: str, **how: bool) -> Any:
        try:
            return self.inner.apply_chat_template(
                self.messages.of(query, document), **how, **self.messages.arguments
            )
        except Exception as error:  # a template raises whatever it likes
            raise self._unsaid(f"cannot be rendered: {reason_of(error)}") from error

    def _unsaid(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.folder}: the chat template, by which sentence-transformers reads pairs, {what}: {_FIX}"
        )


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
