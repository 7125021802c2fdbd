"""Chat of a generator, as the manifest states it: messages as one text, read off the chat template of a folder."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rankport.runtime.bundle.sections.segments import Segment
from rankport.runtime.bundle.strict import Strict

Ends = Literal["none", "start", "end", "both"]
"""Ends of a text that lose their white space."""


class Thinking(Strict):
    """Thoughts that a message may begin with, which no later answer reads."""

    end: str  # that ends them; a message without has none
    which: Literal["last", "first"] = "last"  # of several such, the one that does
    strip: Ends | Literal["newlines"] = "none"  # of what stands behind, then; of newlines, those at its start


class Turn(Strict):
    """Message of a role: what stands around its text, and what of that is read."""

    before: list[Segment] = Field(default_factory=list)  # literals, as are all of these
    after: list[Segment] = Field(default_factory=list)
    strip: Ends = "none"
    thinking: Thinking | None = None
    # Texts that the template reads in a way of its own: a message that has one is refused.
    refused: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)

    def read(self, text: str) -> str:
        """Takes of a message's text what the model reads."""
        text, thinking = stripped(text, self.strip), self.thinking
        if thinking is None or thinking.end not in text:
            return text
        parts = text.rpartition(thinking.end) if thinking.which == "last" else text.partition(thinking.end)
        rest = parts[2]
        return rest.lstrip("\n") if thinking.strip == "newlines" else stripped(rest, thinking.strip)


class SystemTurn(Turn):
    """Message of the system, which a chat may begin with, and where it stands."""

    # `opening`: in the place of the chat's opening; else in the place of what stands before that message of a user.
    place: Literal["opening", "first-user", "last-user"] = "opening"
    user_strip: Ends = "none"  # of the user's message that it stands in
    one_text: bool = False  # both are stripped as one: of an empty message of the user, what stands before it
    skips_empty: bool = False  # an empty one is none


class Chat(Strict):
    """Messages as one text: the opening, a turn for each, and what the answer stands behind."""

    opening: list[Segment] = Field(default_factory=list)
    system: SystemTurn | None = None  # None: the template has no place for one
    user: Turn
    assistant: Turn
    answer: list[Segment] = Field(default_factory=list)
    alternates: bool = False  # user and assistant take turns, the user first
    ends_with_user: bool = False  # the last message is the user's
    arguments: dict[str, Any] = Field(default_factory=dict)  # that the template was told
    date: str | None = None  # of the day that the template was told, YYYY-MM-DD

    @model_validator(mode="after")
    def _literals(self) -> Self:
        for name, segments in self._parts():
            for index, segment in enumerate(segments):
                if not segment.is_literal or segment.joined:
                    raise ValueError(f"{name}[{index}]: must be text or special, and no more")
        return self

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.system is not None and self.system.place != "opening" and not self.alternates:
            raise ValueError(
                f"system.place is {self.system.place!r}, in a user's message: alternates must be true"
            )
        return self

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of messages."""
        return ("user", "assistant") if self.system is None else ("system", "user", "assistant")

    def turn(self, role: str) -> Turn | None:
        """Turn of a role; None of one that it has not."""
        return {"system": self.system, "user": self.user, "assistant": self.assistant}.get(role)

    def _parts(self) -> Iterator[tuple[str, list[Segment]]]:
        yield "opening", self.opening
        for role in self.roles:
            turn = self.turn(role)
            assert turn is not None
            yield f"{role}.before", turn.before
            yield f"{role}.after", turn.after
        yield "answer", self.answer


def stripped(text: str, ends: Ends) -> str:
    """Takes white space off the ends of a text."""
    match ends:
        case "start":
            return text.lstrip()
        case "end":
            return text.rstrip()
        case "both":
            return text.strip()
        case _:
            return text
