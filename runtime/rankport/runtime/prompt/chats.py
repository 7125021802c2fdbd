"""`ChatEncoder`: messages of a chat as token ids, by the bundle's turns.

Texts that stand beside each other are one text for the tokenizer, as where a chat template is rendered and tokenized
whole; special tokens are tokens by themselves, which no message can spell.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_messages
from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.protos.types import Messages
from rankport.protos.wording import listed
from rankport.runtime.bundle.sections.chat import Chat, Turn
from rankport.runtime.bundle.sections.segments import Segment
from rankport.runtime.prompt.checks import refuse_unknown
from rankport.runtime.prompt.far_texts import starts_of
from rankport.runtime.prompt.template import tokens_told
from rankport.runtime.prompt.tokenizer import Tokenizer

_RENAMED = {"developer": "system"}  # the newer name of the same role


_TURNS = ("user", "assistant")
Said = Sequence[tuple[str, str]]
"""Messages of a chat: role and text."""
_Part = str | tuple[str, ...]  # a text, or special tokens


class ChatEncoder:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, chat: Chat, tokenizer: Tokenizer | None, vocab_size: int, max_tokens: int) -> None:
        """Takes the turns of a bundle of so many tokens at most.

        Raises `BundleError` without a tokenizer, or for a special token that tokenizer or model lack.
        """
        if tokenizer is None:
            raise BundleError("chat: its texts need a tokenizer, and the bundle has none")
        self._chat, self._tokenizer, self._inside = chat, tokenizer, tokenizer.inside()
        self._vocab_size, self._max_tokens = vocab_size, max_tokens
        self._special = {name: _special_id(name, tokenizer, vocab_size) for name in _special_names(chat)}

    def encode(self, messages: Messages) -> NDArray[np.int64]:
        """Encodes a chat up to where the answer begins. [tokens]

        Raises:
            InvalidRequest: a message is malformed, or the chat has no place for it; the text has its index.
            LimitExceeded: the chat is too long. It is never cut.
        """
        said = checked_messages(messages)
        self._check(said)
        runs = self._runs(list(_parts(self._chat, [(_RENAMED.get(role, role), text) for role, text in said])))
        ids = self._ids(runs)
        if len(ids) > self._max_tokens:
            raise LimitExceeded(
                f"messages: {tokens_told(len(ids), self._max_tokens)}, max_prefix_tokens is {self._max_tokens}: a chat "
                "is never cut, leave out its oldest messages"
            )
        return ids

    def _ids(self, runs: Sequence[str | NDArray[np.int64]]) -> NDArray[np.int64]:
        """Tokenizes the texts, of which the chat may begin with one, and joins all."""
        first = [run for run in runs[:1] if isinstance(run, str)]
        others = [run for run in runs[1:] if isinstance(run, str)]
        texts = iter([*self._tokenized(self._tokenizer, first), *self._tokenized(self._inside, others)])
        ids = [next(texts) if isinstance(run, str) else run for run in runs]
        return np.concatenate(ids) if ids else np.empty(0, np.int64)

    def _tokenized(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        if not texts:
            return []
        runs = tokenizer.encode_ragged(starts_of(tokenizer, texts, [self._max_tokens] * len(texts)))
        refuse_unknown(runs, self._vocab_size, lambda _: "messages", tokenizer.decode)
        return [runs.run(index) for index in range(len(runs))]

    def _check(self, said: Said) -> None:
        """Refuses what the chat has no place for."""
        chat, roles = self._chat, [_RENAMED.get(role, role) for role, _ in said]
        for index, role in enumerate(roles):
            told = f"messages[{index}] has role {said[index][0]!r:.40}"
            if role not in chat.roles:
                raise InvalidRequest(f"{told}: the bundle's chat has {listed(chat.roles)}")
            turn, text = chat.turn(role), said[index][1]
            assert turn is not None
            if own := next((each for each in turn.refused if each in text), None):
                raise InvalidRequest(
                    f"messages[{index}] has {own!r:.60}, which the chat template reads in a way of its own where "
                    f"{role!r} says it: leave it out"
                )
            if role == "system" and index:
                raise InvalidRequest(f"{told}: the bundle's chat has one of it, the first: join them there")
        first = int(roles[:1] == ["system"])
        turns = roles[first:]
        if not turns:
            raise InvalidRequest("messages: nobody has said anything: give one of role 'user'")
        wrong = next((i for i, role in enumerate(turns) if role != _TURNS[i % 2]), None)
        if chat.alternates and wrong is not None:
            raise InvalidRequest(
                f"messages[{first + wrong}] has role {turns[wrong]!r}: in the bundle's chat user and assistant take "
                "turns, the user first: join messages of one role"
            )
        if chat.ends_with_user and turns[-1] != "user":
            raise InvalidRequest(
                f"messages[{len(roles) - 1}] has role {turns[-1]!r}: the bundle's chat ends with the user's"
            )

    def _runs(self, parts: Sequence[_Part]) -> list[str | NDArray[np.int64]]:
        """Joins texts beside each other, and makes ids of special tokens, of which some take white space with them."""
        swallows = self._tokenizer.swallows
        runs: list[str | NDArray[np.int64]] = []
        open_end = False  # the last special token takes what white space follows
        for part in parts:
            if isinstance(part, str):
                text = part.lstrip() if open_end else part
                open_end = open_end and not text
                if text and runs and isinstance(runs[-1], str):
                    runs[-1] += text
                elif text:
                    runs.append(text)
                continue
            for name in part:
                before, open_end = swallows.get(name, (False, False))
                if before and runs and isinstance(runs[-1], str):
                    text = str(runs.pop()).rstrip()
                    runs += [text] if text else []
                runs.append(np.array([self._special[name]], np.int64))
        return runs


def chat_text(chat: Chat, said: Said) -> str:
    """Writes a chat, which must be of an order that it allows, as the text that its tokens are of."""
    return "".join(part if isinstance(part, str) else "".join(part) for part in _parts(chat, said))


def _parts(chat: Chat, said: Said) -> Iterator[_Part]:
    """Lists texts and special tokens of a chat, in order."""
    system, turns = (chat.system, said[1:]) if said[0][0] == "system" else (None, said)
    if system is not None and system.skips_empty and not said[0][1]:
        system = None
    stated = [] if system is None else [*_around(system, said[0][1])]
    holder = None  # the user's message that has the system's in it
    if system is not None and system.place != "opening":
        users = [index for index, (role, _) in enumerate(turns) if role == "user"]
        holder = users[0] if system.place == "first-user" else users[-1]
    if system is not None and holder is None:
        yield from stated
    else:
        yield from map(_literal, chat.opening)
    for index, (role, text) in enumerate(turns):
        turn = chat.turn(role)
        assert turn is not None, "checked"
        if system is not None and index == holder:
            turn = turn.model_copy(update={"before": [], "strip": system.user_strip})
            if system.one_text and not turn.read(text) and isinstance(stated[-1], str):
                stated[-1] = stated[-1].rstrip()
            yield from stated
        yield from _around(turn, text)
    yield from map(_literal, chat.answer)


def _around(turn: Turn, text: str) -> Iterator[_Part]:
    yield from map(_literal, turn.before)
    yield turn.read(text)
    yield from map(_literal, turn.after)


def _literal(segment: Segment) -> _Part:
    return segment.text or "" if segment.special is None else tuple(segment.special)


def _special_names(chat: Chat) -> Iterator[str]:
    turns = [turn for role in chat.roles if (turn := chat.turn(role)) is not None]
    around = [part for turn in turns for part in (turn.before, turn.after)]
    for segment in (segment for part in (chat.opening, *around, chat.answer) for segment in part):
        yield from segment.special or ()


def _special_id(name: str, tokenizer: Tokenizer, vocab_size: int) -> int:
    token = tokenizer.token_id(name)
    if token is None:
        raise BundleError(f"chat: special token {name!r} is not in the tokenizer's vocabulary")
    if token >= vocab_size:
        raise BundleError(
            f"chat: special token {name!r} is {token}, outside the model's vocabulary of {vocab_size}"
        )
    return token
