"""Chats of several messages: over HTTP, gRPC and the command line they are those in process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.server.server import Server
from rankport.sdk.client import Client
from support.cli import rankport
from support.servers.http import ask
from support.servers.serving import HTTP

PATH = "/v1/chat/completions"
SAID = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "red shoes?"},
    {"role": "assistant", "content": "<think>\nblue\n</think>\n\nyes"},
    {"role": "user", "content": "new?"},
]
PARTS = [{"type": "text", "text": "ne"}, {"type": "text", "text": "w?"}]
SAMPLING = Sampling(max_tokens=6)


@pytest.fixture(scope="module")
def generator(chat_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(chat_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Server]:
    with Server({"chat": generator}, HTTP) as running:
        yield running


def test_a_chat_is_answered_as_in_process(server: Server, generator: Generator) -> None:
    expected = generator.generate(SAID, SAMPLING)
    answer = SAID[2] | {
        "refusal": None,
        "tool_calls": [],
        "annotations": [],
    }  # as clients send back what they got
    asked = {"messages": [*SAID[:2], answer, SAID[3] | {"content": PARTS}], "max_tokens": 6}
    body = ask(server.http_address, PATH, asked).json
    assert body["choices"][0]["message"]["content"] == expected.text
    assert (
        body["usage"]["prompt_tokens"]
        == expected.usage.prompt_tokens_cached + expected.usage.prompt_tokens_computed
    )
    developer = [SAID[0] | {"role": "developer"}, *SAID[1:]]
    told = {"messages": developer, "max_tokens": 6, "chat_template_kwargs": {"enable_thinking": False}}
    assert ask(server.http_address, PATH, told).json["choices"][0]["message"]["content"] == expected.text
    prompt = {"prompt": {"chat": SAID}, "max_tokens": 6}
    assert ask(server.http_address, "/v1/completions", prompt).json["choices"][0]["text"] == expected.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": []}, "messages is empty: give one of role 'user'"),
        ({"messages": SAID[:3]}, "messages[2] has role 'assistant': the bundle's chat ends with the user's"),
        (
            {"messages": [{"role": "tool", "content": "a"}]},
            "messages[0] has role 'tool': the bundle's chat has",
        ),
        (
            {"chat_template_kwargs": {"enable_thinking": True}},
            "enable_thinking is True, and the bundle's chat has F",
        ),
        (
            {"chat_template_kwargs": {"tools": []}},
            "chat_template_kwargs.tools is [], and the bundle's chat has",
        ),
        ({"messages": [SAID[1] | {"name": "bob"}]}, "messages[0].name is 'bob': Input should be null"),
        ({"messages": [SAID[1] | {"content": "a " * 99}]}, "max_prefix_tokens is 96: a chat is never cut"),
    ],
)
def test_what_a_chat_has_no_place_for_is_told(server: Server, change: Any, says: str) -> None:
    answer = ask(server.http_address, PATH, {"messages": SAID} | change)
    assert answer.status in (400, 413)
    assert says in answer.json["error"]["message"]


def test_grpc_and_the_command_line_take_chats(server: Server, generator: Generator, tmp_path: Path) -> None:
    expected = generator.generate(SAID, SAMPLING)
    with Client(server.address, "chat") as client:
        assert client.generate(SAID, SAMPLING).token_ids == expected.token_ids
        assert client.describe().chat_roles == ("system", "user", "assistant")
        assert json.loads(client.describe().chat_template_kwargs) == {"enable_thinking": False}
        with pytest.raises(InvalidRequest, match="role 'tool'"):
            client.generate([{"role": "tool", "content": "a"}], SAMPLING)
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(SAID))
    asked = ("generate", "--server", server.address, "--max-tokens", "6", "--json")
    assert json.loads(rankport(*asked, "--messages", file).stdout)["text"] == expected.text
    wrong = rankport(*asked, "--messages", file, "a")
    assert (wrong.returncode, "or a chat, --messages FILE" in wrong.stderr) == (2, True)
    file.write_text("{}")
    assert "give a list of messages" in rankport(*asked, "--messages", file).stderr
