"""The chat of a bundle: turns of a folder's template, held against its own tokens of many chats."""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from rankport.exporters.kinds.generator.chat.template import FolderTemplate, UnrenderedError
from rankport.exporters.kinds.generator.chat.turns import read_turns
from rankport.exporters.kinds.texts.chat_template import joined, other_tokens
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.bundle.sections.chat import Chat
from rankport.runtime.prompt.chats import ChatEncoder, Said
from rankport.runtime.prompt.tokenizer import Tokenizer

FIELD = "user"
"""Name of the one field of a chat's prompt: the text of a message that is a whole chat."""
_MOST = 2**31  # tokens of a sample
_TEXTS = (
    "spot welder",
    "What does a nurse do?\n\nCares for patients.",
    "  spaces around\t\n",
    "Köchin & 東京のコック, ½",
    "(a) 1,5 %\n- x\n",
    "\n\nfn main() {\n    x\n}",
    "",
)


def read_chat(
    file: Path | None, tokenizer: Tokenizer | None, arguments: Mapping[str, Any], day: date | None
) -> Chat:
    """Reads the chat of the template beside a tokenizer, told these arguments and this day.

    Raises:
        CheckpointError: there is no template, or turns do not make its tokens; the message says where.
        InvalidRequest: it writes the day of each request, and none is given.
    """
    template = FolderTemplate.read(file, arguments, day)
    assert tokenizer is not None, "of the file"
    chat = read_turns(template, tokenizer)
    encoder = ChatEncoder(chat, tokenizer, tokenizer.vocab_size, _MOST)
    for said in _samples(chat):
        try:
            theirs = template.ids(said)
        except UnrenderedError as error:
            raise template.error(f"cannot be rendered for {list(said)}: {error}") from error
        ours = encoder.encode([{"role": role, "content": text} for role, text in said]).tolist()
        if difference := other_tokens(theirs, ours, f"the chat {list(said)}", tokenizer):
            raise template.error(difference)
    return chat


def chat_prompt(chat: Chat) -> Prompt:
    """Makes the prompt of a chat of one message, the field `user`; what is written comes behind it."""
    segments = [*chat.opening, *chat.user.before, Segment(field=FIELD), *chat.user.after, *chat.answer]
    return Prompt(prefix=list(joined(segments)), item=[Segment(item=True)])


def _samples(chat: Chat) -> Iterator[Said]:
    """Lists chats of each order that turns allow, with texts of many kinds."""
    for shift in range(len(_TEXTS)):
        user, answer, again = (_TEXTS[(shift + step) % len(_TEXTS)] for step in range(3))
        one = ("user", user)
        yield [one]
        yield [one, ("assistant", answer), ("user", again)]
        yield [*[one, ("assistant", answer)] * 3, ("user", again)]
        if chat.assistant.thinking is not None:
            yield [one, ("assistant", f"{again}{chat.assistant.thinking.end}{answer}"), one]
        if chat.system is not None:
            yield [("system", again), one]
            yield [("system", again), one, ("assistant", answer), ("user", again)]
        if not chat.ends_with_user:
            yield [one, ("assistant", answer)]
        if not chat.alternates:
            yield [one, ("user", again), ("assistant", answer), one]
