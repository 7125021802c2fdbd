"""OpenAI's chats: `/v1/chat/completions`.

A bundle that was exported with its chat template takes chats of any length. In any other a message fills the field of
the prompt that has the name of its role: one without such fields may frame no chat at all, and takes none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.protos.types import ModelDescription, Prefix
from rankport.runtime.prompt.checks import fields_told
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import FAIL_FAST, ITEM, Form
from rankport.runtime.server.http.writing import Token, write_texts
from rankport.runtime.server.http.writing_options import WritingOptions


@with_config(ITEM)
class ChatPart(TypedDict):
    """Part of a message that is a text."""

    type: Literal["text"]
    text: str


Nothing = Annotated[list[Any], Field(max_length=0)] | None


class ChatMessage(Form):
    """Message of a chat. An answer is sent back with fields that it had, of which those are taken that say nothing."""

    role: str
    content: str | Annotated[list[ChatPart], FAIL_FAST]
    name: None = None
    refusal: None = None
    annotations: Nothing = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing = None
    reasoning: None = None  # this and the following are vLLM's
    reasoning_content: None = None

    @property
    def text(self) -> str:
        """Text of all its parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content)


class ChatSchema(Form):
    """Schema of an answer."""

    name: str = ""  # and what follows: for models that read them
    description: str | None = None
    schema_: Mapping[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ChatResponseFormat(Form):
    """Form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: ChatSchema | None = None

    def schema_of(self) -> Mapping[str, Any] | None:
        """Returns the schema; None of a text. Raises `InvalidRequest` for one that is missing, or too much."""
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise InvalidRequest(
                f"response_format is of type {self.type!r}: give json_schema to its type alone"
            )
        if self.json_schema is None:
            return {"type": "object"} if self.type == "json_object" else None
        if self.json_schema.schema_ is None:
            raise InvalidRequest("response_format.json_schema.schema is not set: give it")
        return self.json_schema.schema_


class OpenAiChat(WritingOptions):
    """Request of a chat. What it does not say, the bundle says."""

    messages: Annotated[list[ChatMessage], FAIL_FAST]
    max_completion_tokens: int | None = None  # the newer name of max_tokens
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ChatResponseFormat | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None  # this and the following are vLLM's
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    echo: bool | None = None

    def sampling(self) -> Sampling:
        """Tells how to write. Raises `InvalidRequest` for what this server cannot do, or a value out of range."""
        self.refuse_unusual(_USUAL)
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest(f"top_logprobs is {self.top_logprobs}, and logprobs is not: set it to true")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise InvalidRequest("max_tokens and max_completion_tokens are both given: give one of them")
        schema = None if self.response_format is None else self.response_format.schema_of()
        most = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        return self.sampling_as(most, self.top_logprobs or 0 if self.logprobs else None, schema)

    def prompt(self, model: ModelDescription) -> Prefix:
        """Takes the chat, or puts its messages into the fields of a prompt.

        Raises `InvalidRequest` where one has no place, or for arguments of the template that are not the bundle's.
        """
        if not self.messages:
            raise InvalidRequest("messages is empty: give one of role 'user'")
        if self.chat_template_kwargs:
            _check_told(self.chat_template_kwargs, json.loads(model.chat_template_kwargs or "{}"))
        if model.chat_roles:
            return [{"role": message.role, "content": message.text} for message in self.messages]
        return self._by_field(model)

    def _by_field(self, model: ModelDescription) -> Mapping[str, str]:
        fields = model.prompt_fields
        given: dict[str, str] = {}
        for index, message in enumerate(self.messages):
            # The newer name of the same role.
            renamed = message.role == "developer" and "developer" not in fields
            role = "system" if renamed else message.role
            if role not in fields or role in given:
                why = "no place" if role not in fields else "one place"
                raise InvalidRequest(
                    f"messages[{index}] has role {message.role!r:.40}, and the prompt of {model.name!r} has {why} for "
                    f"it, but {fields_told(fields)}: export with --prompt chat, or a prompt of a field for each "
                    "message, named by its role, or ask /v1/completions"
                )
            given[role] = message.text
        if missing := [name for name in fields if name not in given]:
            raise InvalidRequest(
                f"messages have no role {missing[0]!r}: the prompt of {model.name!r} has {fields_told(fields)}"
            )
        return given


def _check_told(given: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` for an argument that the bundle's chat template was not told at export."""
    for name, value in given.items():
        if name not in told or told[name] != value:
            raise InvalidRequest(
                f"chat_template_kwargs.{name} is {value!r:.40}, and the bundle's chat has "
                f"{told.get(name, 'none of it')!r:.40}: leave it out, or export with --chat-template-kwargs"
            )


_USUAL = {
    "add_generation_prompt": ((None, True), "an answer begins behind the last message: leave it out"),
    "continue_final_message": ((None, False), "an answer begins behind the last message: leave it out"),
    "add_special_tokens": ((None, False), "the bundle's chat has its own: leave it out"),
    "echo": ((None, False), "leave it out"),
}


class _Words:
    """Words of chats."""

    id_prefix = "chatcmpl"
    whole, event = "chat.completion", "chat.completion.chunk"

    def choice(self, place: int, text: str, logprobs: object, reason: str | None) -> object:
        """Writes a whole text."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": place, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def part(self, place: int, text: str, logprobs: object, reason: str | None, *, first: bool) -> object:
        """Writes a part of one; the first says the role."""
        delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
        return {"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def logprobs(self, tokens: Sequence[Token]) -> object:
        """Writes the log-probabilities of tokens."""
        content = [
            {
                **_token(token.text, token.logprob),
                "top_logprobs": [_token(each.text, each.logprob) for each in token.likeliest],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token(text: str, logprob: float | None) -> Mapping[str, object]:
    return {"token": text, "logprob": logprob, "bytes": [*text.encode()]}


async def _chat(call: Call, form: OpenAiChat) -> Reply | None:
    sampling = form.sampling()
    call.check_size(form.texts, (sampling.max_tokens or 0) * form.texts)
    with call.generator(form.model) as served:
        prompt = form.prompt(served.description)
        return await write_texts(call, form, _Words(), served, [prompt], sampling)


CHAT = Dialect("OpenAI and vLLM: answer a chat", OpenAiChat, _chat, openai_error, "generates")
