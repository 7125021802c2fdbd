"""Forms of JSON bodies: read strictly, so that nothing a client asks for is ignored in silence."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator, with_config
from typing_extensions import TypedDict

from rankport.protos.errors import InvalidRequest
from rankport.protos.files.json_text import json_of_text
from rankport.protos.types import Key, Prefix, Query


class Form(BaseModel):
    """Body of a request. A field that its dialect does not have is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


ITEM = ConfigDict(extra="forbid", strict=True)
"""Rules of objects of which a body may have many: dictionaries, as so many forms take a multiple of the time."""


_NAMES = re.compile(rb'"\s*:')
_NUMBERS = re.compile(rb'\[[^\[\]{}"]*+\]')  # lists without texts, or parts of one text
FAIL_FAST = Field(fail_fast=True)  # a list of millions of faults names one
Texts = Annotated[list[str], FAIL_FAST]
TokenIds = Annotated[list[int], FAIL_FAST]
Numbers = Annotated[list[float], FAIL_FAST]
Vectors = Annotated[list[Numbers], FAIL_FAST]
TopN = Annotated[int, Field(ge=0)] | None
FormT = TypeVar("FormT", bound=Form)


def read_form(body: bytes, form: type[FormT]) -> FormT:
    """Reads a body. Raises `InvalidRequest` that names the first field at fault.

    A field that the dialect does not have and that is null says nothing: clients send all that they know.
    """
    try:
        read = form.model_validate_json(body)
    except ValidationError as error:
        faults = [fault for fault in _faults(error) if not _says_nothing(fault)]
        if faults:
            raise InvalidRequest(_first_fault(faults, form)) from None
        _require_distinct_names(body)
        said = {name: value for name, value in json_of_text(body).items() if name in _names(form)}
        return read_form(json.dumps(said).encode(), form)
    # Whatever more there are lie in objects of objects, or come twice.
    if len(_NAMES.findall(body)) > len(read.model_fields_set):
        _require_distinct_names(body)
    return read


def _faults(error: ValidationError) -> list[Any]:
    faults: list[Any] = error.errors(include_url=False, include_context=False)
    return faults


def _says_nothing(fault: Any) -> bool:
    """Says whether a fault is a field of the body that the dialect does not have, and that is null."""
    return fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1 and fault["input"] is None


def _names(form: type[Form]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in form.model_fields.items())


def _require_distinct_names(body: bytes) -> None:
    """Raises `InvalidRequest` for a name twice in one object, of which pydantic takes the last.

    Looks without lists of numbers first, which take Python's parser six times as long as pydantic's; names that such
    a list told apart are looked at again with it.
    """
    try:
        json_of_text(_NUMBERS.sub(b"[]", body))
    except ValueError:
        try:
            json_of_text(body)
        except ValueError as error:
            raise InvalidRequest(f"the body is no JSON that says one thing: {error}") from None


def _first_fault(faults: list[Any], form: type[Form]) -> str:
    # Of a value that may have several types, the fault in the one that it has: the one that lies deepest inside it.
    fault = min(faults, key=_otherness)
    if fault["type"] == "json_invalid":
        return f"the body is no JSON: {fault['msg'].removeprefix('Invalid JSON: ')}"
    place = _place(fault["loc"])
    if fault["type"] == "extra_forbidden":
        if len(fault["loc"]) > 1:
            return f"{place} is no field that this server knows: leave it out"
        return f"{place} is no field of this request: leave it out, it has {', '.join(form.model_fields)}"
    if fault["type"] == "missing":
        return f"{place} is not set: give it"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"].endswith("_type"):  # it has none of the types that it may have
        said = [
            each["msg"] for each in faults if each["type"].endswith("_type") and _place(each["loc"]) == place
        ]
        message = " or ".join(
            dict.fromkeys([said[0], *(each.removeprefix("Input should be ") for each in said[1:])])
        )
    return f"{place}{_value(fault['input'])}: {message}" if place else message


def _otherness(fault: Any) -> tuple[bool, int]:
    """Sorts faults: those of a value behind those of its type, and of these the outer ones behind the inner ones."""
    of_type = fault["type"].endswith("_type")
    return of_type, -len(re.findall(r"[.\[]", _place(fault["loc"]))) if of_type else 0


def _value(value: object) -> str:
    return f" is {value!r:.40}" if value is None or isinstance(value, str | int | float) else ""


def _place(loc: tuple[int | str, ...]) -> str:
    """Writes where a fault is: `documents[3].text`. The names of a union's members are left out."""
    place = ""
    for step in loc:
        if isinstance(step, int):
            place += f"[{step}]"
        elif step.isidentifier() and (step not in ("str", "int", "float")) and not step[0].isupper():
            place += f".{step}" if place else step
    return place


def refuse(name: str, value: object, instead: str) -> None:
    """Raises `InvalidRequest` for a field of a dialect that cannot be honoured, if it is set."""
    if value is not None and value is not False:
        raise InvalidRequest(f"{name} is {value!r:.60}, which this server cannot do: {instead}")


def has_field(body: bytes, name: str) -> bool:
    """Says whether a body that is not parsed yet has a field of that name. Text cannot look like one."""
    return re.search(rb'"' + name.encode() + rb'"\s*:', body) is not None


class OneOf(Form):
    """Object of which exactly one field is set."""

    @model_validator(mode="after")
    def _one(self) -> "OneOf":
        if len(self.model_fields_set) != 1:
            names = [field.alias or name for name, field in type(self).model_fields.items()]
            raise ValueError(f"give exactly one of {', '.join(names)}")
        return self


@with_config(ITEM)
class Message(TypedDict):
    """Message of a chat."""

    role: str
    content: str


class PromptObject(OneOf):
    """Prompt of what writes, by its form."""

    text: str | None = None
    fields: Mapping[str, str] | None = None
    token_ids: TokenIds | None = None
    chat: Annotated[list[Message], FAIL_FAST] | None = None


class PrefixObject(OneOf):
    """Prefix that all items share, by its form."""

    text: str | None = None
    fields: Mapping[str, str] | None = None
    token_ids: TokenIds | None = None
    chat: Annotated[list[Message], FAIL_FAST] | None = None
    # Of a two-tower's query: [width], of late interaction [vectors, width].
    embeddings: Numbers | Vectors | None = None
    key: str | None = None  # of a two-tower's query in the store

    def value(self) -> Query:
        """Returns the prefix as models take it."""
        if self.key is not None:
            return Key(self.key)
        if self.embeddings and isinstance(self.embeddings[0], list):
            return matrix(self.embeddings, "prefix.embeddings")
        if self.embeddings is not None:
            return np.array(self.embeddings, np.float32)
        return _plain(self)


def matrix(rows: Sequence[Sequence[float]] | Sequence[np.ndarray], where: str) -> np.ndarray:
    """Makes an array of rows. Raises `InvalidRequest` for rows of unequal length."""
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise InvalidRequest(f"{where} has rows of {lengths[0]} and {lengths[-1]} numbers: give all alike")
    return np.array(rows, np.float32).reshape(len(rows), lengths[0] if lengths else 0)


def prompt_value(prompt: str | PromptObject) -> Prefix:
    """Returns a prompt as models take it. Raises `InvalidRequest` for null."""
    return prompt if isinstance(prompt, str) else _plain(prompt)


def prompt_tokens(prompt: str | PromptObject) -> int:
    """Counts the tokens that are known before a prompt is tokenized."""
    return 0 if isinstance(prompt, str) or prompt.token_ids is None else len(prompt.token_ids)


def _plain(given: PromptObject | PrefixObject) -> Prefix:
    if given.chat is not None and not given.chat:
        raise InvalidRequest("chat has no messages: give one of role 'user'")
    for form in (given.text, given.fields, given.token_ids, given.chat):
        if form is not None:
            return cast(Prefix, form)
    raise InvalidRequest("prefix is null: give it in one of its forms")
