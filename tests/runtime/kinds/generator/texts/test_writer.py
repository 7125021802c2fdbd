"""Parts of a text are whole characters, together they are the text, and a stop text is never part of it."""

from functools import cache
from typing import ClassVar

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from rankport.runtime.kinds.generator.texts.writer import Writer
from rankport.runtime.prompt.tokenizer import Tokenizer


@cache
def byte_tokenizer() -> Tokenizer:
    """Every byte is a token: characters beyond ASCII come in halves."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return Tokenizer(inner)


@cache
def fallback_tokenizer() -> Tokenizer:
    """Bytes that no piece has are tokens, as SentencePiece has them: those of one run are of no character together."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "\u2581the"]
    model = models.BPE({piece: place for place, piece in enumerate(pieces)}, [], byte_fallback=True)
    inner = tokenizers.Tokenizer(model)
    inner.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(inner)


def write(text: str, *stops: str, min_tokens: int = 0) -> tuple[list[str], Writer]:
    writer, parts = Writer(byte_tokenizer(), stops, min_tokens), []
    for token in byte_tokenizer().encode_batch([text])[0].tolist():
        parts.append(writer.add(token))
        if writer.stopped:
            break
    return [*parts, writer.end()], writer


@given(st.text(max_size=12))
def test_parts_together_are_the_text(text: str) -> None:
    parts, writer = write(text)
    assert "".join(parts) == writer.text == text
    assert all("\ufffd" not in part or "\ufffd" in text for part in parts)


@given(st.text("abé€", max_size=12), st.lists(st.text("abé", min_size=1, max_size=3), min_size=1, max_size=2))
def test_a_text_ends_before_the_first_stop_text(text: str, stops: list[str]) -> None:
    parts, writer = write(text, *stops)
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert writer.stopped == bool(found)
    assert "".join(parts) == writer.text
    assert all(stop not in writer.text for stop in stops)
    if not found:
        assert writer.text == text


def test_what_may_begin_a_stop_text_waits() -> None:
    parts, _ = write("one. END", ". END")
    assert "".join(parts) == "one"
    parts, _ = write("one. End", ". END")
    assert parts[:4] == ["o", "n", "e", ""]
    assert "".join(parts) == "one. End"


class CountedStop(str):
    """Counts how often it is asked what it begins with."""

    __slots__ = ()
    asked: ClassVar[list[str]] = []

    def startswith(self, text: str, *ends: int) -> bool:  # type: ignore[override]
        self.asked.append(text)
        return super().startswith(text, *ends)


def test_what_is_told_is_not_looked_at_again_however_long_a_stop_text_is() -> None:
    CountedStop.asked.clear()
    text = "once more " * 30
    parts, writer = write(text, CountedStop("z" * 1000))
    assert "".join(parts) == writer.text == text
    assert len(CountedStop.asked) <= 2 * len(text)


def test_half_a_character_at_the_end_is_told_as_such() -> None:
    writer = Writer(byte_tokenizer(), ())
    first = byte_tokenizer().encode_batch(["é"])[0].tolist()[0]
    assert (writer.add(first), writer.end()) == ("", "\ufffd")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([b"\n", b"\xf0", "\u2581the"], ["\n", "", "\ufffd the", ""]),  # half of an emoji behind a new line
        ([b"\n", b"\xf0", b"\x9f", b"\x98", b"\x80", "a"], ["\n", "", "", "", "\U0001f600", "a", ""]),
        ([b"\n", b"\xf0"], ["\n", "", "\ufffd"]),
        ([b"\xe6", b"\x88", "a"], ["", "", "\ufffd\ufffda", ""]),
        (["a", b"\xc3", b"\xa9", b"\xff", "\u2581the"], ["a", "", "\u00e9", "", "\ufffd the", ""]),
    ],
)
def test_bytes_that_are_of_no_character_take_nothing_back(parts: list[bytes | str], told: list[str]) -> None:
    names = [part if isinstance(part, str) else f"<0x{part.hex().upper()}>" for part in parts]
    ids = [fallback_tokenizer().token_id(name) for name in names]
    writer = Writer(fallback_tokenizer(), ())
    assert [*map(writer.add, ids), writer.end()] == told
    assert writer.text == "".join(told)


@given(st.lists(st.integers(0, 259), max_size=12))
def test_whatever_is_written_its_parts_are_the_text(ids: list[int]) -> None:
    writer = Writer(fallback_tokenizer(), ())
    parts = [*map(writer.add, ids), writer.end()]
    assert "".join(parts) == writer.text
    if "\ufffd" not in writer.text:
        assert writer.text == fallback_tokenizer().text_of(ids)


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(0, 8))
def test_a_stop_text_counts_that_ends_behind_the_least_tokens(text: str, stop: str, least: int) -> None:
    """Text of `stop` that begins among them and ends behind them: it stops, as in vLLM."""
    parts, writer = write(text, stop, min_tokens=least)
    at = next((end - len(stop) for end in range(least + 1, len(text) + 1) if text[:end].endswith(stop)), None)
    assert writer.stopped == (at is not None)
    assert "".join(parts) == writer.text == text[:at]


def test_what_a_token_would_add_is_told_and_adds_nothing() -> None:
    tokenizer = fallback_tokenizer()
    the, letter, half = (tokenizer.token_id(name) or 0 for name in ("\u2581the", "a", "<0xC3>"))
    writer = Writer(tokenizer, ())
    assert [writer.would_add(token) for token in (the, letter, half)] == ["the", "a", "\ufffd"]
    writer.add(letter)
    assert writer.would_add(the) == " the"  # in its place, not by itself
    assert writer.add(the) == " the"
