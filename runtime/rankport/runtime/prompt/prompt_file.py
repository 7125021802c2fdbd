"""Prompt files: TOML that says how requests become tokens, and the checks an export makes of one.

Owns the file's syntax and what can be known of a prompt with its tokenizer at hand; `manifest.Prompt` owns
the rules of a prompt by itself, `encoder` its use. docs/bundle-format.md shows the format.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer

_KEYS = ("labels", "prefix", "item")


@dataclass(frozen=True, slots=True)
class PromptFile:
    """Contents of a prompt file."""

    prompt: Prompt
    labels: list[str] | None  # label words; None leaves them to the export's options


def load_prompt_file(path: str | os.PathLike[str]) -> PromptFile:
    """Reads a prompt file.

    Raises:
        NotFound: no such file.
        InvalidRequest: not TOML, or against the rules; the message has file, line and segment at fault.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        fields = tomllib.loads(text)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such prompt file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"{path}: not a readable TOML file: {reason_of(error)}") from error
    unknown = sorted(fields.keys() - set(_KEYS))
    if unknown:
        raise InvalidRequest(f"{path}: unknown key {unknown[0]!r}, must be one of {', '.join(_KEYS)}")
    try:
        prompt = Prompt.model_validate({"prefix": fields.get("prefix", []), "item": fields.get("item", [])})
    except ValidationError as error:
        reason = explain(error)
        raise InvalidRequest(f"{path}{_line(text, fields, reason)}: {reason}") from None
    return PromptFile(prompt, _labels(fields.get("labels"), path))


def validate_prompt(prompt: Prompt, tokenizer: Tokenizer | None) -> None:
    """Checks a prompt against the tokenizer it is exported with.

    Raises:
        InvalidRequest: literals without a tokenizer; a special token that is not in the vocabulary (near
            matches are named); a text that spells a special token, which text never becomes.
    """
    for part, segments in (("prefix", prompt.prefix), ("item", prompt.item)):
        for index, segment in enumerate(segments):
            where = f"prompt: {part}[{index}]"
            if (segment.is_literal or segment.joined) and tokenizer is None:
                what = "text and special need" if segment.is_literal else "joined needs"
                raise InvalidRequest(f"{where}: {what} a tokenizer: the checkpoint has none")
            if segment.special is not None and tokenizer is not None:
                _check_special(segment.special, tokenizer, where)
            if segment.text is not None and tokenizer is not None:
                _check_text(segment.text, tokenizer, where)


def tokenization_difference(
    prompt: Prompt, tokenizer: Tokenizer, requests: Iterable[tuple[str | Mapping[str, str], str]]
) -> tuple[int, int]:
    """Counts the (prefix, item text) `requests` that tokenize differently as one joined text than as it is served.

    Special tokens stand in the joined text by their text; limits are left out.

    Returns:
        (samples, different).
    """
    joint = tokenizer.matching_special()
    compiled = CompiledPrompt.of(prompt, tokenizer)
    samples = different = 0
    for prefix, item in requests:
        fields = dict.fromkeys(prompt.fields, prefix) if isinstance(prefix, str) else prefix
        text = "".join(_text_of(segment, fields, item) for segment in [*prompt.prefix, *prompt.item])
        served = compiled.ids([fields[name] for name in prompt.fields], item, tokenizer)
        samples += 1
        different += served.tolist() != joint.encode_batch([text])[0].tolist()
    return samples, different


def _labels(labels: object, path: str | os.PathLike[str]) -> list[str] | None:
    if labels is None:
        return None
    words = labels if isinstance(labels, list) else []
    if not words or not all(isinstance(word, str) and word for word in words):
        raise InvalidRequest(f"{path}: labels is {labels!r}, must be a list of words, at least one")
    if len(set(words)) < len(words):
        raise InvalidRequest(f"{path}: labels is {labels!r}: a word is given twice")
    return words


def _line(text: str, fields: Mapping[str, Any], reason: str) -> str:
    """Writes ", line 7" for a reason that opens with a segment, "" where its `[[header]]` cannot be told apart."""
    segment = re.match(r"(prefix|item)\[(\d+)\]", reason)
    if segment is None:
        return ""
    part, index = segment[1], int(segment[2])
    headers = [
        number
        for number, line in enumerate(text.split("\n"), start=1)
        if re.match(rf"\s*\[\[\s*{part}\s*\]\]", line)
    ]
    return f", line {headers[index]}" if len(headers) == len(fields[part]) else ""


def _check_special(names: Sequence[str], tokenizer: Tokenizer, where: str) -> None:
    for name in names:
        if tokenizer.token_id(name) is None:
            near = difflib.get_close_matches(name, tokenizer.vocabulary(), n=3)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else "name a token of tokenizer.json"
            raise InvalidRequest(f"{where}.special: {name!r} is not in the tokenizer's vocabulary: {hint}")


def _check_text(text: str, tokenizer: Tokenizer, where: str) -> None:
    for name in tokenizer.special_tokens():
        if name in text:
            raise InvalidRequest(
                f"{where}.text: spells the special token {name!r}, but text never becomes one: "
                f"split the segment and give it as special = [{name!r}]"
            )


def _text_of(segment: Segment, fields: Mapping[str, str], item: str) -> str:
    if segment.special is not None:
        return "".join(segment.special)
    if segment.field is not None:
        return fields[segment.field]
    return item if segment.item else segment.text or ""
