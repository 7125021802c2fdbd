"""Messages of a chat: which there may be, and what is refused of them."""

from typing import Any

import pytest

from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.runtime.bundle.manifest import Segment
from rankport.runtime.bundle.sections.chat import Chat
from rankport.runtime.prompt.chats import ChatEncoder
from support.prompt_encoders import made
from support.text_tokenizers import tokenizer_of

TURN = {"before": [{"text": "A: "}], "after": [{"text": "\n"}]}
FREE = {"system": TURN, "user": TURN, "assistant": {**TURN, "strip": "both"}, "answer": [{"text": "B:"}]}


def encoder(tokens: int = 100, **changes: Any) -> ChatEncoder:
    tokenizer = tokenizer_of("byte-level")
    return ChatEncoder(Chat.model_validate({**FREE, **changes}), tokenizer, tokenizer.vocab_size, tokens)


def said(*messages: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), message.split(":", 1), strict=True)) for message in messages]


def test_texts_beside_each_other_are_one_text() -> None:
    ids = encoder().encode(said("system:red", "user: is it", "assistant: yes ", "user:"))
    assert tokenizer_of("byte-level").decode(ids) == "A: red\nA:  is it\nA: yes\nA: \nB:"
    (whole,) = tokenizer_of("byte-level").encode_batch(["A: red\nA:  is it\nA: yes\nA: \nB:"])
    assert ids.tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("changes", "messages", "says"),
    [
        ({}, ["tool:a"], "messages[0] has role 'tool': the bundle's chat has system, user, assistant"),
        (
            {"system": None},
            ["developer:a", "user:b"],
            "messages[0] has role 'developer': the bundle's chat has user",
        ),
        (
            {},
            ["user:a", "system:b"],
            "messages[1] has role 'system': the bundle's chat has one of it, the first",
        ),
        ({}, ["system:b"], "messages: nobody has said anything"),
        (
            {"alternates": True},
            ["system:s", "user:a", "user:b"],
            "messages[2] has role 'user': in the bundle's chat",
        ),
        (
            {"alternates": True},
            ["assistant:a", "user:b"],
            "messages[0] has role 'assistant': in the bundle's chat",
        ),
        (
            {"ends_with_user": True},
            ["user:a", "assistant:b"],
            "messages[1] has role 'assistant': the bundle's chat e",
        ),
    ],
)
def test_a_message_without_a_place_is_refused_by_its_own(
    changes: Any, messages: list[str], says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encoder(**changes).encode(said(*messages))
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "user"}, 'messages[1]: has role: give {"role": text, "content": text}'),
        ({"role": "user", "content": "a", "name": "b"}, "messages[1]: has role, content, name: give"),
        ({"role": "user", "content": None}, "messages[1].content is"),
        ("a", "messages[1] is"),
    ],
)
def test_what_is_no_message_is_refused(message: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encoder().encode([*said("user:a"), message])
    assert str(refused.value).startswith(says)


def test_a_chat_is_never_cut() -> None:
    whole = encoder().encode(said("user:red shoes"))
    assert encoder(len(whole)).encode(said("user:red shoes")).tolist() == whole.tolist()
    with pytest.raises(
        LimitExceeded, match=f"messages: {len(whole)} tokens, max_prefix_tokens is {len(whole) - 1}"
    ):
        encoder(len(whole) - 1).encode(said("user:red shoes"))


def test_a_developer_is_the_system() -> None:
    one, other = (encoder().encode(said(f"{role}:a", "user:b")) for role in ("developer", "system"))
    assert one.tolist() == other.tolist()


def test_other_prompts_take_no_chat() -> None:
    with pytest.raises(
        InvalidRequest, match="messages of a chat, and the bundle takes none: its prompt has the fields"
    ):
        made().encode_prefix(said("user:a"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"opening": [{"field": "a"}]}, r"opening\[0\]: must be text or special"),
        ({"system": {**TURN, "place": "last-user"}}, "alternates must be true"),
    ],
)
def test_a_chat_is_literals_in_order(changes: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Chat.model_validate({**FREE, **changes})


def test_special_tokens_are_the_tokenizers() -> None:
    with pytest.raises(BundleError, match="chat: special token '<s>' is not in the tokenizer's vocabulary"):
        encoder(opening=[Segment(special=["<s>"])])
    with pytest.raises(BundleError, match="chat: its texts need a tokenizer"):
        ChatEncoder(Chat.model_validate(FREE), None, 10, 10)
