"""Turns of a chat, read off what a template makes of marked messages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from rankport.exporters.kinds.generator.chat.template import FolderTemplate, UnrenderedError
from rankport.exporters.kinds.texts.chat_template import literals
from rankport.runtime.bundle.sections.chat import Chat, Ends, SystemTurn, Thinking, Turn
from rankport.runtime.prompt.chats import Said, chat_text
from rankport.runtime.prompt.tokenizer import Tokenizer

_ENDS_OF_THOUGHTS = ("</think>", "</seed:think>", "[/THINK]", "</thinking>")
_BEFORE, _AFTER = " \t\n", "\n \t"  # a marked text
_STRIPS_BEHIND = ("none", "newlines", "start", "end", "both")
_STRIPS: dict[tuple[bool, bool], Ends] = {
    (True, True): "both",
    (True, False): "start",
    (False, True): "end",
    (False, False): "none",
}


def read_turns(template: FolderTemplate, tokenizer: Tokenizer) -> Chat:
    """Reads the turns of a template; that they say all of it is for the caller to check. Raises CheckpointError."""
    return _Reader(template, tokenizer).chat()


def _mark(name: str) -> str:
    return f"\ue000{name}\ue001"  # of a private plane: no template has it


_USERS, _ANSWERS, _SYSTEM = (
    [_mark(f"user{i}") for i in range(3)],
    [_mark(f"answer{i}") for i in range(3)],
    _mark("s"),
)
_ONE: Said = [("user", _USERS[0])]
_TWO: Said = [*_ONE, ("assistant", _ANSWERS[0]), ("user", _USERS[1])]
_THREE: Said = [*_TWO, ("assistant", _ANSWERS[1]), ("user", _USERS[2])]


@dataclass(frozen=True, slots=True)
class _Reader:
    template: FolderTemplate
    tokenizer: Tokenizer

    def chat(self) -> Chat:
        """Puts the turns together."""
        before, after = self._pieces(_ONE)
        user_after = self._without_answer(after)
        first, behind_user, behind_answer, again, once_more, last = self._pieces(_THREE)
        if (first, again, once_more, last) != (before, behind_user, behind_answer, after):
            raise self.template.error("writes other texts around messages of one role, by their places")
        if not behind_user.startswith(user_after):
            raise self.template.error(
                f"writes {user_after!r} behind the last message of a user, and {behind_user!r} behind others"
            )
        user_before = self._user_before(before, behind_answer)
        opening = before[: len(before) - len(user_before)]
        user = self._turn("user", user_before, user_after, _ONE)
        assistant = self._turn(
            "assistant",
            behind_user[len(user_after) :],
            behind_answer[: len(behind_answer) - len(user_before)],
            _TWO,
        )
        assistant = assistant.model_copy(update={"thinking": self._thinking(assistant)})
        parts: dict[str, Any] = {
            "opening": self._segments(opening),
            "system": self._system(opening, user_before, after),
            "user": user,
            "assistant": assistant,
            "answer": self._segments(after[len(user_after) :]),
            "arguments": dict(self.template.arguments),
            "date": None if self.template.day is None else self.template.day.isoformat(),
        }
        return self._ordered(parts)

    def _ordered(self, parts: dict[str, Any]) -> Chat:
        """Says which orders of messages the template writes as turns one by one."""
        system = parts["system"]
        thinking = parts["assistant"].thinking
        thoughts = "" if thinking is None else f"a{thinking.end}"
        user, answer = ("user", _USERS[0]), ("assistant", thoughts + _ANSWERS[0])
        orders: list[list[tuple[str, str]]] = [[user, user], [answer, user], [user, answer, answer, user]]
        if system is not None:
            orders.append([("system", _SYSTEM), answer, user])
        free = system is None or system.place == "opening"
        free = free and all(self._is_said(Chat(**parts), order) for order in orders)
        ends = Chat(**parts, alternates=not free)
        return ends.model_copy(update={"ends_with_user": not self._is_said(ends, [user, answer])})

    def _is_said(self, chat: Chat, said: Said) -> bool:
        try:
            return self.template.text(said) == chat_text(chat, said)
        except UnrenderedError:
            return False

    def _pieces(self, said: Said) -> list[str]:
        """Cuts the text of a chat at its messages, each of which must stand there once, in order."""
        rest, pieces = self._text(said), []
        for role, mark in said:
            before, found, rest = rest.partition(mark)
            if not found or mark in rest:
                raise self.template.error(
                    f"does not have the text of each message once, in order (role {role!r})"
                )
            pieces.append(before)
        return [*pieces, rest]

    def _text(self, said: Said) -> str:
        try:
            return self.template.text(said)
        except UnrenderedError as error:
            roles = ", ".join(role for role, _ in said)
            raise self.template.error(f"cannot be rendered for messages of {roles}: {error}") from error

    def _without_answer(self, after: str) -> str:
        """Finds what stands behind a message of a user, of what does where an answer is asked for."""
        bare = self._behind_last(_ONE)
        return after if bare is None else self._common_start(bare, after)

    def _user_before(self, before: str, behind_answer: str) -> str:
        """Finds what stands before a message of a user, of what does before the first one, and behind an answer."""
        bare = self._behind_last(_TWO[:2])
        own = "" if bare is None else behind_answer[len(self._common_start(bare, behind_answer)) :]
        return own if own and before.endswith(own) else self._common_end(before, behind_answer)

    def _behind_last(self, said: Said) -> str | None:
        """Finds what stands behind the last message where no answer is asked for; None where that is refused."""
        try:
            return self.template.text(said, answer=False).rpartition(said[-1][1])[2]
        except UnrenderedError:
            return None

    def _turn(self, role: Literal["user", "assistant"], before: str, after: str, said: Said) -> Turn:
        place = next(index for index, (named, _) in enumerate(said) if named == role)
        return Turn(
            before=self._segments(before), after=self._segments(after), strip=self._strip(said, place)
        )

    def _strip(self, said: Said, place: int) -> Ends:
        """Finds which ends of a message lose their white space."""
        role, mark = said[place]
        wide = [*said[:place], (role, _BEFORE + mark + _AFTER), *said[place + 1 :]]
        before, _, after = self._text(said).partition(mark)
        before_wide, _, after_wide = self._text(wide).partition(mark)
        if before_wide not in (before, before + _BEFORE) or after_wide not in (after, _AFTER + after):
            raise self.template.error(f"changes white space around messages of {role!r}")
        return _STRIPS[before_wide == before, after_wide == after]

    def _thinking(self, assistant: Turn) -> Thinking | None:
        """Finds whether thoughts of earlier answers are left out, and what is stripped of the rest."""
        before, _, after = self._text(_TWO).partition(_ANSWERS[0])
        for end in _ENDS_OF_THOUGHTS:
            if end not in self.template.source:
                continue
            text = f"a{end} {end}\n \n{_ANSWERS[0]}\n "
            said: Said = [_TWO[0], ("assistant", text), _TWO[2]]
            written = self._text(said)
            if written == before + assistant.read(text) + after:
                continue
            for which, strip in product(("last", "first"), _STRIPS_BEHIND):
                thinking = Thinking.model_validate({"end": end, "which": which, "strip": strip})
                turn = assistant.model_copy(update={"thinking": thinking})
                if written == before + turn.read(text) + after:
                    return thinking
            raise self.template.error(f"writes what stands before {end!r} of an answer in a way of its own")
        return None

    def _system(self, opening: str, user_before: str, after: str) -> SystemTurn | None:
        """Finds where the message of the system stands; None where the template has no place for it."""
        one: Said = [("system", _SYSTEM), *_ONE]
        try:
            if _SYSTEM not in self.template.text(one):
                return None
        except UnrenderedError:
            return None
        before, between, behind = self._pieces(one)
        if behind != after:
            raise self.template.error(
                "writes another text behind a user's message where there is one of the system"
            )
        strip = self._strip(one, 0)
        place = self._place(between, user_before)
        if place == "opening":
            between = between[: len(between) - len(user_before)]
        elif before.startswith(opening):
            before = before[len(opening) :]
        else:
            raise self.template.error("begins otherwise where there is a message of the system")
        empty: Said = [("system", _SYSTEM), ("user", "")]
        apart = place == "opening" or self._text(empty).endswith(between + after)
        return SystemTurn(
            before=self._segments(before),
            after=self._segments(between),
            strip=strip,
            place=place,
            user_strip="none" if place == "opening" else self._strip(one, 1),
            one_text=not apart,
            skips_empty=self._text([("system", ""), *_ONE]) == self._text(_ONE),
        )

    def _place(self, between: str, user_before: str) -> Literal["opening", "first-user", "last-user"]:
        text = self._text([("system", _SYSTEM), *_TWO])
        if text.find(_SYSTEM) > text.find(_USERS[0]):
            return "last-user"
        return "opening" if between.endswith(user_before) else "first-user"

    def _segments(self, text: str) -> list[Any]:
        return list(literals(text, self.tokenizer))

    def _common_start(self, one: str, other: str) -> str:
        """Finds the longest start of two texts that is one, of whole special tokens."""
        shared = 0
        for mine, theirs in zip(self._units(one), self._units(other), strict=False):
            if mine != theirs:
                break
            shared += len(mine)
        return one[:shared]

    def _common_end(self, one: str, other: str) -> str:
        """Finds the longest end of two texts that is one, of whole special tokens."""
        shared = 0
        for mine, theirs in zip(reversed(self._units(one)), reversed(self._units(other)), strict=False):
            if mine != theirs:
                break
            shared += len(mine)
        return one[len(one) - shared :]

    def _units(self, text: str) -> Sequence[str]:
        names = sorted(filter(None, self.tokenizer.special_tokens()), key=len, reverse=True)
        return re.findall("|".join([*map(re.escape, names), "."]), text, re.DOTALL)
