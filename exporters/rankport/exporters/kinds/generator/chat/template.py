"""A folder's chat template as transformers renders it, in its sandbox, for chats of any length."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from transformers.utils import chat_template_utils

from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.reasons import reason_of
from rankport.runtime.prompt.chats import Said

_FIX = "write the prompt as a file, with a field for each message, and give it by --prompt"
_CODE = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_TEXT = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)


class UnrenderedError(Exception):
    """Raised where a template refuses a chat; `str` says why."""


@dataclass(frozen=True, slots=True)
class FolderTemplate:
    """The template of a tokenizer, and what it is told beside the messages."""

    inner: Any  # tokenizer, as transformers loads it
    file: Path  # of the tokenizer
    arguments: Mapping[str, Any]
    day: date | None  # that `strftime_now` tells

    @classmethod
    def read(cls, file: Path | None, arguments: Mapping[str, Any], day: date | None) -> "FolderTemplate":
        """Reads the template beside a tokenizer. Raises CheckpointError where there is none."""
        if file is None:
            raise CheckpointError("--prompt chat: the checkpoint has no tokenizer.json, which reads texts")
        inner = own_tokenizer(file)
        if not inner.chat_template:
            raise CheckpointError(
                f"{file.parent}: --prompt chat: its tokenizer has no chat template (chat_template of "
                "tokenizer_config.json, or chat_template.jinja beside it): add it, or give a prompt file"
            )
        return cls(inner, file, arguments, day)

    @property
    def source(self) -> str:
        """The template's text."""
        source: str = self.inner.get_chat_template()
        return source

    @property
    def named_texts(self) -> tuple[str, ...]:
        """Texts that the template's code names, each once: what it looks for in messages is among them."""
        named = [
            found for code in _CODE.findall(self.source) for pair in _TEXT.findall(code) for found in pair
        ]
        plain = (text.encode("ascii", "backslashreplace").decode("unicode-escape") for text in named)
        return tuple(dict.fromkeys(filter(None, plain)))

    def require_read(self) -> None:
        """Raises InvalidRequest for an argument, or a day, that the template does not read."""
        told = f"{self.file.parent}: --prompt chat: the chat template"
        for name in self.arguments:
            if not re.search(rf"\b{re.escape(name)}\b", self.source):
                raise InvalidRequest(
                    f"{told} does not read {name!r:.60} of --chat-template-kwargs: leave it out, or correct its name"
                )
        if self.day is not None and "strftime_now" not in self.source:
            raise InvalidRequest(f"{told} writes no day: leave --chat-date {self.day.isoformat()} out")

    def text(self, said: Said, *, answer: bool = True) -> str:
        """Renders a chat, up to where its answer begins. Raises `UnrenderedError`."""
        rendered: str = self._rendered(said, answer, tokenize=False)
        return rendered

    def ids(self, said: Said) -> list[int]:
        """Gives the token ids of a chat, up to where its answer begins. Raises `UnrenderedError`."""
        return list(self._rendered(said, True, tokenize=True, return_dict=False))

    def error(self, what: str) -> CheckpointError:
        """Makes the error of a template that no turns say."""
        return CheckpointError(f"{self.file.parent}: --prompt chat: the chat template {what}: {_FIX}")

    def _rendered(self, said: Said, answer: bool, **how: bool) -> Any:
        messages = [{"role": role, "content": text} for role, text in said]
        try:
            # `strftime_now` of the template asks that module's clock, and no argument stands in for it.
            with temporary_attributes(chat_template_utils, {"datetime": _Clock(self)}):
                return self.inner.apply_chat_template(
                    messages, add_generation_prompt=answer, **how, **self.arguments
                )
        except InvalidRequest:
            raise
        except Exception as error:  # a template raises whatever it likes
            raise UnrenderedError(reason_of(error)) from error


@dataclass(frozen=True, slots=True)
class _Clock:
    """Clock that knows one day, which a bundle tells for ever."""

    template: FolderTemplate

    def now(self) -> "_Clock":
        """Gives what `strftime` is asked of."""
        return self

    def strftime(self, form: str) -> str:
        """Writes the day. Raises InvalidRequest where nobody said which."""
        if self.template.day is None:
            raise InvalidRequest(
                f"{self.template.file.parent}: --prompt chat: the chat template writes the day of each request "
                f"(strftime_now({form!r})), and a bundle writes one: give it by --chat-date YYYY-MM-DD"
            )
        return self.template.day.strftime(form)
