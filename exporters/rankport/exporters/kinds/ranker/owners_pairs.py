"""Pairs of a CrossEncoder's folder as sentence-transformers reads them: the prompt that says so, held against them.

Where the folder says that a pair is a chat, query and document are a message each of that role, its chat template is
rendered by transformers, in its sandbox, and the whole is tokenized at once. Else the tokenizer frames the two texts,
with the folder's default prompt before the query.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.texts.chat_template import ChatTemplate, joined, literals, other_tokens, unsaid
from rankport.exporters.kinds.texts.pairs.frame import FIRST_FIELD, PairTokenizer
from rankport.exporters.options.stated_prompt import chat_template_file
from rankport.protos.errors import CheckpointError
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


@dataclass(frozen=True, slots=True)
class OwnersPairs:
    """The tokenizer of a folder, the chat template of its pairs, if they are chats, and its default prompt."""

    template: ChatTemplate | None
    before: str  # the query, as one text with it; the template's message of `system`
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
        file, messages = source.tokenizer_file, folder.messages
        inner = own_tokenizer(file)
        template = None if messages is None else ChatTemplate(messages, inner, file, "pairs")
        return cls(template, folder.prompt, inner, file)

    def prompt(self, tokenizer: Tokenizer) -> Prompt:
        """Makes the prompt by which a ranker reads the same tokens. Raises CheckpointError where none does."""
        prompt = (
            self._framed(tokenizer) if self.template is None else self._of_template(self.template, tokenizer)
        )
        if difference := self.difference(prompt, tokenizer):
            raise unsaid(self.file, self.name, "pairs", difference)
        return prompt

    @property
    def name(self) -> str:
        """Reader of a pair, in words."""
        if self.template is not None:
            return "chat template"
        return f"default prompt {self.before!r}" if self.before else "tokenizer"

    @property
    def says_texts(self) -> bool:
        """Tells whether it puts texts around a pair, not a frame alone."""
        return self.template is not None or bool(self.before)

    def _framed(self, tokenizer: Tokenizer) -> Prompt:
        """Takes the tokenizer's frame of two texts; the field has the name that it has in any bare prompt."""
        frame = PairTokenizer(self.inner, self.file).frame().prompt
        prefix: list[Segment] = []
        for segment in frame.prefix:
            if segment.field is None:
                prefix.append(segment)
                continue
            query = segment.model_copy(update={"field": BARE_FIELD})
            prefix += joined([*literals(self.before, tokenizer), query])
        return Prompt(prefix=prefix, item=frame.item)

    def _of_template(self, template: ChatTemplate, tokenizer: Tokenizer) -> Prompt:
        """Reads the prompt off the text that the template makes of a pair."""
        text = template.text(system=self.before, query=_QUERY, document=_DOCUMENT)
        if text.count(_QUERY) != 1 or text.count(_DOCUMENT) != 1:
            raise template.error("does not have the text of the query once, and that of the document once")
        query, item = Segment(field=FIRST_FIELD), Segment(item=True)
        values = [(_QUERY, query), (_DOCUMENT, item)]
        (first, first_segment), (second, second_segment) = sorted(
            values, key=lambda value: text.find(value[0])
        )
        before, _, rest = text.partition(first)
        between, _, after = rest.partition(second)
        segments = [
            *literals(before, tokenizer),
            first_segment,
            *literals(between, tokenizer),
            second_segment,
            *literals(after, tokenizer),
        ]
        begin = segments.index(item)  # a query behind the document is read with it
        whole = list(joined(segments))
        return Prompt(prefix=whole[:begin], item=whole[begin:])

    def difference(self, prompt: Prompt, tokenizer: Tokenizer) -> str:
        """Says of which pair a prompt makes other tokens than the owner; empty where of none that is tried."""
        compiled = CompiledPrompt.of(prompt, tokenizer)
        for query, document in _PAIRS:
            theirs = self._ids(query, document)
            ours = compiled.ids([query] * len(prompt.fields), document, tokenizer).tolist()
            if difference := other_tokens(theirs, ours, f"{query!r} and {document!r}", tokenizer):
                return difference
        return ""

    def _ids(self, query: str, document: str) -> list[int]:
        if self.template is None:
            return list(self.inner(self.before + query, document)["input_ids"])
        return self.template.ids(system=self.before, query=query, document=document)


def _is_unsaid(source: Checkpoint | StatedModel) -> bool:
    """Tells whether a folder has what sentence-transformers would guess by, or that pairs are ids alone."""
    file = source.tokenizer_file
    return file is None or source.head == "none" or chat_template_file(file.parent) is not None
