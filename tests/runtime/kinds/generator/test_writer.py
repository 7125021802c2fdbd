"""Parts of a text are whole characters, together they are the text, and a stop text is never part of it."""

from functools import cache

import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from rankport.runtime.kinds.generator.writer import Writer
from rankport.runtime.prompt.tokenizer import Tokenizer


@cache
def byte_tokenizer() -> Tokenizer:
    """Every byte is a token: characters beyond ASCII come in halves."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return Tokenizer(inner)


def write(text: str, *stops: str) -> tuple[list[str], Writer]:
    writer, parts = Writer(byte_tokenizer(), stops), []
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


def test_half_a_character_at_the_end_is_told_as_such() -> None:
    writer = Writer(byte_tokenizer(), ())
    first = byte_tokenizer().encode_batch(["é"])[0].tolist()[0]
    assert (writer.add(first), writer.end()) == ("", "\ufffd")
