"""Frame of a text, special tokens around it: where a folder's owner has another than tokenizer.json, and bundles.

Owns the comparison and its words. Frames are told by their tokens' names.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.config.own_code import own_code
from rankport.exporters.checkpoints.own_tokenizer import REBUILT, own_tokenizer
from rankport.exporters.checkpoints.published.nv_embed import CODE, ends_texts
from rankport.exporters.options.prompts import framed_prompt, word_of
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Segment

_HEEDING = ("CodeLlama", "Cohere", "Gemma", "GPTNeoX", "Llama")
"""Tokenizers whose `add_bos_token` and `add_eos_token` transformers heeded before 5, where it wrote the frame anew."""


@dataclass(frozen=True, slots=True)
class _Frame:
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "_Frame":
        """Reads the special tokens at both ends."""
        first, last = (tuple(segment.special or ()) for segment in (segments[0], segments[-1]))
        return cls(first, last)

    def __str__(self) -> str:
        return " ".join([*self.before, "…", *self.after]) if self.before or self.after else "nothing"


def frame_doubts(file: Path, segments: Sequence[Segment], *, ends: bool) -> Iterator[str]:
    """Says where `segments` of a text have the frame of a tokenizer.json, and its folder's owner has another.

    `ends`: whether they are framed at their end too, which a text that a model goes on writing is not.
    """
    if not segments:
        return
    try:
        ours, own = _Frame.of(framed_prompt(file).prompt.item), _Frame.of(segments)
    except CheckpointError:  # a frame that no prompt can say
        return
    told = (own.before == ours.before, ends and own.after == ours.after)
    with suppress(CheckpointError):
        inner = own_tokenizer(file)
        theirs = _frame_by(inner)
        if theirs is not None and _differ(ours, theirs, told):
            yield (
                f"tokenizer: transformers' {type(inner).__name__} puts {theirs} around a text, and tokenizer.json, "
                f"whose frame the bundle has, {ours}: {REBUILT}"
            )
        yield from _typed(inner)
    yield from _unheeded(file, ours, told)
    if told[1]:
        yield from _ended_by_code(file, ours)


def _differ(ours: _Frame, theirs: _Frame, told: tuple[bool, bool]) -> bool:
    before, after = told
    return (before and ours.before != theirs.before) or (after and ours.after != theirs.after)


def _frame_by(inner: Any) -> _Frame | None:
    """Finds the frame that a tokenizer of transformers puts; None where a text is not found in it."""
    backend = getattr(inner, "backend_tokenizer", None)
    word = "a" if backend is None else word_of(backend)
    bare, framed = (list(inner(word, add_special_tokens=own)["input_ids"]) for own in (False, True))
    size = len(bare)
    start = next((place for place in range(len(framed)) if framed[place : place + size] == bare), None)
    if start is None:
        return None
    before, after = (inner.convert_ids_to_tokens(ids) for ids in (framed[:start], framed[start + size :]))
    return _Frame(tuple(before), tuple(after))


def _typed(inner: Any) -> Iterator[str]:
    """Says that a tokenizer of transformers gives tokens of one text other types than 0, as XLNet's does its last."""
    types = inner("a").get("token_type_ids") or ()
    if any(types):
        yield (
            f"tokenizer: transformers' {type(inner).__name__} gives the tokens of a text the types {list(types)}, "
            "which the model reads, and a bundle gives it none: if it was trained without them, set model_input_names "
            'to ["input_ids", "attention_mask"] in tokenizer_config.json, else serve this one by its own library'
        )


def _unheeded(file: Path, ours: _Frame, told: tuple[bool, bool]) -> Iterator[str]:
    """Says which of tokenizer_config.json's words on the frame neither transformers nor the bundle heeds.

    They are of tokenizers that transformers heeded before 5, and of those with code of their own (gte-Qwen2's).
    """
    config = file.parent / "tokenizer_config.json"
    stated = read_json_object(config) if config.is_file() else {}
    kind = str(stated.get("tokenizer_class")).removesuffix("Fast").removesuffix("Tokenizer")
    has_code = bool(own_code(config.name, stated))
    if kind not in _HEEDING and not has_code:
        return
    heeded = "transformers heeded before 5 and now does not"
    if has_code:
        heeded = "code that its auto_map names may heed and transformers does not"
    sides = {"bos": (ours.before, told[0]), "eos": (ours.after, told[1])}
    tokens = {name: token for name in sides if (token := _token(stated, name)) is not None}
    has = {name: token in sides[name][0] for name, token in tokens.items()}
    wanted = {name: stated.get(f"add_{name}_token", has[name]) for name in has}
    asked = ", ".join(f"add_{name}_token={value}" for name, value in wanted.items())
    for name, token in tokens.items():
        flag, is_told = wanted[name], sides[name][1]
        if is_told and isinstance(flag, bool) and flag != has[name]:
            yield (
                f"tokenizer: tokenizer_config.json says add_{name}_token {str(flag).lower()}, which {heeded}, and "
                f"the frame of tokenizer.json, which the bundle has, {ours}, "
                f"{'lacks' if flag else 'has'} {token}: if the model was trained by the former, write the file anew "
                f"with AutoTokenizer.from_pretrained(FOLDER, {asked}).save_pretrained(FOLDER); else take the word out"
            )


def _ended_by_code(file: Path, ours: _Frame) -> Iterator[str]:
    """Says that a model's published code puts an end token behind a text, where the bundle has none."""
    config, beside = (file.parent / name for name in ("config.json", "tokenizer_config.json"))
    if not config.is_file() or not ends_texts(read_json_object(config)):
        return
    stated = read_json_object(beside) if beside.is_file() else {}
    token = _token(stated, "eos")
    if token is not None and token not in ours.after:
        yield (
            f"tokenizer: {CODE} puts {token} behind each text in code of its own (add_eos of config.json), and the "
            f"frame of tokenizer.json, which the bundle has, {ours}, lacks it: write the file anew with "
            f"{stated.get('tokenizer_class', 'LlamaTokenizer')}.from_pretrained(FOLDER, add_bos_token=True, "
            "add_eos_token=True).save_pretrained(FOLDER)"
        )


def _token(stated: Mapping[str, Any], name: str) -> str | None:
    """Reads the token of a name; None where there is none."""
    token = stated.get(f"{name}_token")
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
