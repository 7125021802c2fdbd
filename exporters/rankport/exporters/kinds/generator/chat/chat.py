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
from rankport.runtime.prompt.chats import ChatEncoder, Said, chat_text
from rankport.runtime.prompt.tokenizer import Tokenizer

FIELD = "user"
"""Name of the one field of a chat's prompt: the text of a message that is a whole chat."""
_MOST = 2**31  # tokens of a sample
_LEAST_NAMED = 3  # characters of a text that messages are refused for
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
        InvalidRequest: it writes the day of each request, and none is given; or it does not read what is told.
    """
    template = FolderTemplate.read(file, arguments, day)
    assert tokenizer is not None, "of the file"
    chat = read_turns(template, tokenizer)
    template.require_read()
    encoder = ChatEncoder(chat, tokenizer, tokenizer.vocab_size, _MOST)
    for said in _samples(chat):
        try:
            theirs = template.ids(said)
        except UnrenderedError as error:
            raise template.error(f"cannot be rendered for {list(said)}: {error}") from error
        ours = encoder.encode([{"role": role, "content": text} for role, text in said]).tolist()
        if difference := other_tokens(theirs, ours, f"the chat {list(said)}", tokenizer):
            raise template.error(difference)
    return _without_own_ways(template, chat)


def chat_prompt(chat: Chat) -> Prompt:
    """Makes the prompt of a chat of one message, the field `user`; what is written comes behind it."""
    segments = [*chat.opening, *chat.user.before, Segment(field=FIELD), *chat.user.after, *chat.answer]
    return Prompt(prefix=list(joined(segments)), item=[Segment(item=True)])


def _without_own_ways(template: FolderTemplate, chat: Chat) -> Chat:
    """Finds the texts that a template reads otherwise than turns say where a message has them: it is refused then."""
    refused: dict[str, Any] = {}
    for role in chat.roles:
        turn = chat.turn(role)
        assert turn is not None
        own = [text for text in template.named_texts if not _is_plain(template, chat, role, text)]
        if short := next((text for text in own if len(text.strip()) < _LEAST_NAMED), None):
            raise template.error(f"reads {short!r} in a message of {role!r} in a way of its own")
        refused[role] = turn.model_copy(update={"refused": own})
    return chat.model_copy(update=refused)


def _is_plain(template: FolderTemplate, chat: Chat, role: str, text: str) -> bool:
    first = [("system", "s")] if chat.system is not None else []
    for form in (f"a {text} b", f"{text}a", f"a{text}", f"a{text}b{text}c"):
        turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
        said = [(named, form if named == role else plain) for named, plain in [*first, *turns]]
        try:
            if template.text(said) != chat_text(chat, said):
                return False
        except UnrenderedError:
            return False
    return True


def _samples(chat: Chat) -> Iterator[Said]:
    """Lists chats of each order that turns allow, with texts of many kinds."""
    for shift in range(len(_TEXTS)):
        user, answer, again = (_TEXTS[(shift + step) % len(_TEXTS)] for step in range(3))
        one = ("user", user)
        yield [one]
        yield [one, ("assistant", answer), ("user", again)]
        yield [*[one, ("assistant", answer)] * 3, ("user", again)]
        if chat.assistant.thinking is not None:
            thoughtful = ("assistant", f"{again}{chat.assistant.thinking.end}{answer}")
            yield [one, thoughtful, one]
            if not chat.ends_with_user:
                yield [one, thoughtful]
            if not chat.alternates:
                yield [one, thoughtful, thoughtful, one]
        if chat.system is not None:
            yield [("system", again), one]
            yield [("system", again), one, ("assistant", answer), ("user", again)]
        if not chat.ends_with_user:
            yield [one, ("assistant", answer)]
        if not chat.alternates:
            yield [one, ("user", again), ("assistant", answer), one]
