"""OpenAI's completions: texts are those in process, whole and as events, and end with their client."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.server.http.dialects.completions import OpenAiCompletions
from rankport.runtime.server.http.forms import read_form
from rankport.runtime.server.server import Server
from support import samplings
from support.servers.http import ask
from support.servers.serving import HTTP
from support.servers.supervised import eventually

PATH = "/v1/completions"
DRAWN = {"max_tokens": 10, "temperature": 1.0, "seed": 4, "stop": "zzz", "stop_token_ids": [3]}
STREAM_OPTIONS = {"include_usage": True, "include_obfuscation": False}  # as OpenAI's own clients may say
SAMPLING = Sampling(max_tokens=10, temperature=1.0, seed=4, logprobs=True, stop=("zzz",), stop_ids=(3,))


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle) -> Iterator[Generator]:
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Server]:
    with Server({"writer": generator}, HTTP) as running:
        yield running


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return server.http_address


def opened(address: str, body: object, path: str = PATH) -> tuple[HTTPConnection, HTTPResponse]:
    connection = HTTPConnection(address, timeout=20)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    return connection, connection.getresponse()


def events(address: str, body: object, path: str = PATH) -> list[Any]:
    """Reads all events of an answer; the last one is no JSON."""
    connection, answer = opened(address, body, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.headers["x-rankport-model"] == "writer"
    told = answer.read().decode()
    connection.close()
    *said, done, nothing = told.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in said]


@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        ("a b", ["a b"]),
        ([5, 6, 7], [[5, 6, 7]]),
        (["a b", "c"], ["a b", "c"]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        ({"fields": {"prefix": "a b"}}, [{"prefix": "a b"}]),
    ],
)
def test_texts_are_those_in_process(address: str, generator: Generator, prompt: Any, given: Any) -> None:
    expected = [generator.generate(each, SAMPLING) for each in given]
    answer = ask(address, PATH, {"model": "writer", "prompt": prompt, "logprobs": 0, **DRAWN})
    body = answer.json
    assert (body["object"], body["model"], answer.headers["x-rankport-version"]) == (
        "text_completion",
        "writer",
        "1",
    )
    for place, (choice, result) in enumerate(zip(body["choices"], expected, strict=True)):
        assert (choice["index"], choice["text"]) == (place, result.text)
        assert choice["finish_reason"] == result.finish_reason
        said = choice["logprobs"]
        assert "".join(said["tokens"]) == result.text
        assert said["token_logprobs"] == pytest.approx(result.logprobs.tolist(), abs=1e-5)
        starts = zip(said["tokens"], said["text_offset"], strict=True)
        assert all(result.text.startswith(text, start) for text, start in starts)
    read = sum(each.usage.prompt_tokens_cached + each.usage.prompt_tokens_computed for each in expected)
    written = sum(each.usage.generated_tokens for each in expected)
    assert body["usage"]["prompt_tokens"] == read
    assert (body["usage"]["completion_tokens"], body["usage"]["total_tokens"]) == (written, read + written)


@pytest.mark.parametrize("seeds", [(4, 5, 6), (2**63 - 1, 0, 1)])
def test_each_prompt_has_n_texts_of_seeds_of_their_own(
    address: str, generator: Generator, seeds: Sequence[int]
) -> None:
    expected = [
        generator.generate(prompt, replace(SAMPLING, seed=seed)) for prompt in ("a b", "c") for seed in seeds
    ]
    body = ask(address, PATH, {"prompt": ["a b", "c"], "n": 3, "best_of": 3, **DRAWN, "seed": seeds[0]}).json
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3, 4, 5]
    assert [choice["text"] for choice in body["choices"]] == [result.text for result in expected]
    usages = [result.usage for result in expected[::3]]
    read = sum(usage.prompt_tokens_cached + usage.prompt_tokens_computed for usage in usages)
    assert body["usage"]["prompt_tokens"] == read
    assert body["usage"]["completion_tokens"] == sum(result.usage.generated_tokens for result in expected)


ADJUSTED = {
    "max_tokens": 10,
    "temperature": 1.0,
    "seed": 4,
    "presence_penalty": 1.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"2": 9, "40": 4.5},
    "min_tokens": 3,
    "ignore_eos": True,
    "use_beam_search": False,
    "length_penalty": 1.0,
}


def test_likeliest_tokens_of_an_adjusted_text_are_those_in_process(
    address: str, chatting: tuple["Chatting", str], generator: Generator
) -> None:
    result = generator.generate("a b c", samplings.ADJUSTED)
    assert result.logprobs is not None
    asked = {"prompt": "a b c", "logprobs": 3, **ADJUSTED}
    (choice,) = ask(address, PATH, asked).json["choices"]
    said = choice["logprobs"]
    columns = (said["top_logprobs"], said["tokens"], result.token_ids, result.logprobs, result.top_logprobs)
    for told, text, token, logprob, place in zip(*columns, strict=True):
        expected = {each.text: each.logprob for each in reversed(place)}  # of one text the likelier
        if token not in {each.token_id for each in place}:
            expected = {text: logprob} | expected
        assert told == pytest.approx(expected, abs=1e-5)
    streamed = [part["choices"][0]["logprobs"] for part in events(address, asked | {"stream": True})]
    places = [place for part in streamed if part is not None for place in part["top_logprobs"]]
    assert places == [pytest.approx(place) for place in choice["logprobs"]["top_logprobs"]]

    chat = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 3, **ADJUSTED}
    content = ask(chatting[1], CHAT, chat).json["choices"][0]["logprobs"]["content"]
    for told, place in zip(content, result.top_logprobs, strict=True):
        assert [each["token"] for each in told["top_logprobs"]] == [each.text for each in place]
        assert [each["bytes"] for each in told["top_logprobs"]] == [[*each.text.encode()] for each in place]
        assert [each["logprob"] for each in told["top_logprobs"]] == pytest.approx(
            [each.logprob for each in place], abs=1e-5
        )
    parts = events(chatting[1], chat | {"stream": True}, CHAT)
    streamed = [part["choices"][0]["logprobs"] for part in parts]
    places = [token["top_logprobs"] for part in streamed if part is not None for token in part["content"]]
    assert [[each["token"] for each in place] for place in places] == [
        [each.text for each in place] for place in result.top_logprobs
    ]


class Suggesting:
    """Writer whose texts three beams find."""

    def __init__(self, suggester: Generator) -> None:
        self._suggester = suggester

    def __getattr__(self, name: str) -> Any:
        return getattr(self._suggester, name)

    def submit_generate(self, prompt: Any, sampling: Sampling, *given: Any, **options: Any) -> Any:
        beams = 3 if sampling.beams is None else sampling.beams
        return self._suggester.submit_generate(prompt, replace(sampling, beams=beams), *given, **options)


def test_beams_are_searched_where_a_request_says_so(seq2seq_bundle: Bundle) -> None:
    """Beams as vLLM has them: n texts by as many, or none where it says false."""
    asked = {"prompt": "red shoes", "n": 2, "max_tokens": 6, "seed": 4}
    with (
        Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as suggester,
        Server({"writer": Suggesting(suggester)}, HTTP) as running,
    ):
        found = suggester.generate("red shoes", Sampling(beams=2, max_tokens=6, length_penalty=0.5)).beams
        drawn = [
            suggester.generate("red shoes", Sampling(beams=1, max_tokens=6, temperature=1.0, seed=seed))
            for seed in (4, 5)
        ]
        search = {"use_beam_search": True, "length_penalty": 0.5, "temperature": 0}
        bodies = [
            ask(running.http_address, PATH, asked | how).json
            for how in (search, {"use_beam_search": False, "temperature": 1.0})
        ]
        plain = {"use_beam_search": False, "temperature": 1.0, "length_penalty": 1.0}
        bodies.append(ask(running.http_address, PATH, asked | plain).json)
        told = ask(running.http_address, PATH, asked | search | {"temperature": 0.5}).json["error"]["message"]
    texts = [[choice["text"] for choice in body["choices"]] for body in bodies]
    assert texts == [[beam.text for beam in found], *[[result.text for result in drawn]] * 2]
    assert told == "temperature is 0.5, which this server cannot do: beams take the likeliest texts: give 0"


def test_a_length_penalty_that_is_said_is_that_of_the_search(generator: Generator) -> None:
    """Be it the usual one: a bundle may say another."""
    form = read_form(
        b'{"prompt": "a", "n": 3, "use_beam_search": true, "length_penalty": 1.0}', OpenAiCompletions
    )
    sampling = form.with_beams(form.sampling(), generator.describe(), finds_beams=True)
    assert (sampling.beams, sampling.length_penalty, sampling.temperature) == (3, 1.0, 0.0)


def test_texts_of_one_prompt_are_the_likeliest_that_beams_find(seq2seq_bundle: Bundle) -> None:
    asked = {"prompt": ["red shoes", "a"], "n": 3, "max_tokens": 6}
    with (
        Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as suggester,
        Server({"writer": Suggesting(suggester)}, HTTP) as running,
    ):
        found = [
            suggester.generate(prompt, Sampling(beams=3, max_tokens=6)).beams for prompt in ("red shoes", "a")
        ]
        body = ask(running.http_address, PATH, asked).json
        streamed = events(running.http_address, asked | {"stream": True})
        told = ask(running.http_address, PATH, asked | {"n": 4}).json["error"]["message"]
    beams = [beam for of_prompt in found for beam in of_prompt]
    assert [choice["text"] for choice in body["choices"]] == [beam.text for beam in beams]
    assert [choice["finish_reason"] for choice in body["choices"]] == [beam.finish_reason for beam in beams]
    written = sum(len(beam.token_ids) + (beam.finish_reason == "stop") for beam in beams)
    assert body["usage"]["completion_tokens"] == written
    parts = [choice for part in streamed for choice in part["choices"]]
    for place, beam in enumerate(beams):
        assert "".join(part["text"] for part in parts if part["index"] == place) == beam.text
    assert told == "n is 4: the model's beams find 3 texts: ask for less"


CHAT = "/v1/chat/completions"
MESSAGES = [
    {"role": "developer", "content": "a"},
    {"role": "user", "content": [{"type": "text", "text": " b"}, {"type": "text", "text": " c"}]},
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


class Chatting:
    """Writer whose prompt has a field for each of two roles."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.asked: list[Sampling] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def describe(self) -> Any:
        return replace(self._generator.describe(), prompt_fields=("system", "user"))

    def submit_generate(self, prompt: Any, sampling: Sampling, *given: Any, **options: Any) -> Any:
        self.asked.append(sampling)
        return self._generator.submit_generate(prompt["system"] + prompt["user"], sampling, *given, **options)


@pytest.fixture(scope="module")
def chatting(generator: Generator) -> Iterator[tuple[Chatting, str]]:
    model = Chatting(generator)
    with Server({"writer": model}, HTTP) as running:
        yield model, running.http_address


def test_messages_fill_the_fields_of_their_roles(
    chatting: tuple[Chatting, str], generator: Generator
) -> None:
    expected = generator.generate("a b c", SAMPLING)
    given = {key: value for key, value in DRAWN.items() if key != "max_tokens"}
    asked = {"messages": MESSAGES, "max_completion_tokens": 10, "logprobs": True, **given}
    body = ask(chatting[1], CHAT, asked).json
    assert (body["object"], body["id"][:9], body["model"]) == ("chat.completion", "chatcmpl-", "writer")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert choice["finish_reason"] == expected.finish_reason
    tokens = choice["logprobs"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == expected.text
    assert [token["logprob"] for token in tokens] == pytest.approx(expected.logprobs.tolist(), abs=1e-5)
    assert body["usage"]["completion_tokens"] == expected.usage.generated_tokens
    parts = events(chatting[1], asked | {"stream": True}, CHAT)
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    choices = [choice for part in parts for choice in part["choices"]]
    assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)
    assert "".join(choice["delta"].get("content", "") for choice in choices) == expected.text
    assert choices[-1]["finish_reason"] == expected.finish_reason


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}, SCHEMA),
    ],
)
def test_the_form_of_an_answer_is_heeded(chatting: tuple[Chatting, str], form: Any, schema: Any) -> None:
    model, address = chatting
    asked = {"messages": MESSAGES, "response_format": form, "max_tokens": 1}
    ask(address, CHAT, asked)
    sampled = model.asked[-1].json_schema
    assert (json.loads(sampled) if isinstance(sampled, str) else sampled) == schema


def test_a_field_that_is_not_known_and_says_nothing_changes_nothing(chatting: tuple[Chatting, str]) -> None:
    model, address = chatting
    asked = {"messages": MESSAGES, "max_tokens": 1, "seed": 4}
    assert ask(address, CHAT, asked | {"prediction": None, "audio": None}).status == 200
    assert model.asked[-1] == Sampling(max_tokens=1, seed=4)
    told = ask(address, CHAT, asked | {"prediction": None, "audio": {}}).json["error"]["message"]
    assert "audio is no field of this request" in told


SENT = json.loads((Path(__file__).parents[3] / "stock_clients" / "requests.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "sent",
    [sent for sent in SENT if sent["path"].endswith("completions")],
    ids=lambda sent: sent["path"],
)
def test_what_stock_clients_sent_is_written_as_they_said(
    chatting: tuple[Chatting, str], generator: Generator, sent: dict[str, Any]
) -> None:
    """Requests of openai, LiteLLM and LangChain (`stock_clients.run --record`), replayed."""
    model, address = chatting
    path, body = sent["path"], sent["body"]
    if path == PATH:
        body = body | {"prompt": {"fields": {"system": "a", "user": " b c"}}}
    else:
        body = body | {"messages": MESSAGES}
    bodies = (
        events(address, body, path) if body.get("stream") else [ask(address, path, body).json]  # whole
    )
    asked = model.asked[-1]
    assert (asked.max_tokens, asked.temperature) == (8, 0.0)
    assert (asked.presence_penalty, asked.frequency_penalty) == (0.5, 0.25)
    choices = [choice for part in bodies for choice in part["choices"]]
    said = [
        choice.get("message") or choice.get("delta") or {"content": choice.get("text")} for choice in choices
    ]
    result = generator.generate("a b c", asked)
    assert "".join(each.get("content") or "" for each in said) == result.text
    assert bodies[-1]["usage"]["completion_tokens"] == result.usage.generated_tokens


LABELS = {
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "metadata": {"a": "b"},
    "request_id": "r",
}
DEFAULTS = {
    "store": False,
    "service_tier": "auto",
    "modalities": ["text"],
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "logit_bias": {},
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
    "return_tokens_as_token_ids": False,
    "return_token_ids": False,
    "bad_words": [],
    "priority": 0,
    "echo": False,
}


def test_labels_and_defaults_that_clients_send_change_nothing(chatting: tuple[Chatting, str]) -> None:
    model, address = chatting
    asked = {**LABELS, **DEFAULTS, "max_tokens": 1, "seed": 4}
    of_chats = {"add_generation_prompt": True, "continue_final_message": False, "add_special_tokens": False}
    assert ask(address, CHAT, {"messages": MESSAGES, **asked, **of_chats}).status == 200
    assert model.asked[-1] == Sampling(max_tokens=1, seed=4)
    fields = {"fields": {"system": "a", "user": "b"}}
    assert ask(address, PATH, {"prompt": fields, **asked, "add_special_tokens": True}).status == 200
    assert model.asked[-1] == Sampling(max_tokens=1, seed=4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"store": True}, "store is True, which this server cannot do: nothing is kept of a request"),
        ({"service_tier": "flex"}, "service_tier is 'flex'"),
        ({"modalities": ["text", "audio"]}, "modalities is ['text', 'audio']"),
        ({"tools": [{"type": "function"}]}, "which this server cannot do: models call none: leave them out"),
        ({"tool_choice": "required"}, "tool_choice is 'required'"),
        ({"skip_special_tokens": False}, "skip_special_tokens is False, which this server cannot do"),
        ({"include_stop_str_in_output": True}, "include_stop_str_in_output is True"),
        ({"return_token_ids": True}, "return_token_ids is True"),
        ({"bad_words": ["a"]}, "bad_words is ['a'], which this server cannot do: give logit_bias, by token"),
        ({"priority": 1}, "priority is 1"),
        ({"logit_bias": {"5": 1, "05": 2}}, "logit_bias has a token twice"),
        ({"add_generation_prompt": False}, "add_generation_prompt is False"),
        ({"continue_final_message": True}, "continue_final_message is True"),
        ({"echo": True}, "echo is True"),
    ],
)
def test_other_values_of_defaults_are_refused(
    chatting: tuple[Chatting, str], change: dict[str, object], says: str
) -> None:
    answer = ask(chatting[1], CHAT, {"messages": MESSAGES} | change)
    assert (answer.status, says in answer.json["error"]["message"]) == (400, True), answer.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"messages": [*MESSAGES, MESSAGES[1]]},
            "messages[2] has role 'user', and the prompt of 'writer' has one",
        ),
        (
            {"messages": [{"role": "tool", "content": "a"}]},
            "[0] has role 'tool', and the prompt of 'writer' has no place",
        ),
        (
            {"messages": MESSAGES[:1]},
            "messages have no role 'user': the prompt of 'writer' has the fields system",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"top_logprobs": 2}, "top_logprobs is 2, and logprobs is not: set it to true"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs is 21: give a whole number from 0 to 20"),
        (
            {"max_tokens": 1, "max_completion_tokens": 2},
            "max_tokens and max_completion_tokens are both given",
        ),
        (
            {"response_format": {"type": "json_schema"}},
            "is of type 'json_schema': give json_schema to its type alone",
        ),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "are both given",
        ),
        ({"functions": []}, "functions is no field of this request"),
    ],
)
def test_what_a_chat_cannot_have_is_told(chatting: tuple[Chatting, str], change: Any, says: str) -> None:
    answer = ask(chatting[1], CHAT, {"messages": MESSAGES} | change)
    assert (answer.status, answer.json["error"]["type"]) == (400, "InvalidRequest")
    assert says in answer.json["error"]["message"]


def test_a_prompt_without_roles_takes_no_chat(address: str) -> None:
    told = ask(address, CHAT, {"messages": [{"role": "user", "content": "a"}]}).json["error"]["message"]
    assert (
        "the prompt of 'writer' has no place for it, but the fields prefix: export with --prompt chat, or"
        in told
    )


@pytest.mark.parametrize("texts", [1, 2])
def test_events_together_are_the_answer(address: str, texts: int) -> None:
    asked = {"prompt": ["a b", "c"], "logprobs": 0, "n": texts, **DRAWN}
    whole = ask(address, PATH, asked).json
    *parts, last = events(address, asked | {"stream": True, "stream_options": STREAM_OPTIONS})
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], whole["usage"]["total_tokens"])
    assert {part["usage"] for part in parts} == {None}
    assert len({part["id"] for part in (*parts, last)}) == 1
    for choice in whole["choices"]:
        own = [each for part in parts for each in part["choices"] if each["index"] == choice["index"]]
        assert "".join(each["text"] for each in own) == choice["text"]
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        said = [each["logprobs"] for each in own if each["logprobs"] is not None]
        for name in ("tokens", "token_logprobs", "text_offset"):
            assert [value for each in said for value in each[name]] == pytest.approx(choice["logprobs"][name])


def test_without_options_events_have_no_usage(address: str) -> None:
    parts = events(address, {"prompt": "a b", "stream": True, **DRAWN})
    assert all("usage" not in part and len(part["choices"]) == 1 for part in parts)


def test_a_connection_goes_on_behind_its_events(address: str) -> None:
    connection, answer = opened(address, {"prompt": "a", "stream": True, "max_tokens": 2})
    assert answer.read().endswith(b"data: [DONE]\n\n")
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_that_leaves_ends_its_text(server: Server, address: str, generator: Generator) -> None:
    connection, answer = opened(address, {"prompt": [5], "stream": True, "max_tokens": 64, "temperature": 0})
    answer.readline()
    connection.close()
    answer.close()
    eventually(lambda: generator.counts().engines["cpu"].queue.active_requests == 0)
    assert ask(address, PATH, {"prompt": [6], "max_tokens": 1}).status == 200


def test_a_failure_behind_the_first_event_is_the_last_one(
    server: Server, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = generator.submit_generate

    def failing(*given: Any, on_part: Any, **options: Any) -> Any:
        def told(part: Any) -> None:
            on_part(part)
            if part.text:
                raise ValueError("broken")

        return submitted(*given, on_part=told, **options)

    monkeypatch.setattr(generator, "submit_generate", failing)
    connection, answer = opened(server.http_address, {"prompt": "a b", "stream": True, **DRAWN})
    first, *_, last, nothing = answer.read().decode().split("\n\n")
    connection.close()
    assert (answer.status, nothing) == (200, "")
    assert "choices" in json.loads(first.removeprefix("data: "))
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "InvalidRequest"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"prompt": [5], "max_tokens": 65}, 413, "the bundle writes at most 64"),
        ({"prompt": {"fields": {"nobody": "a"}}}, 400, "nobody"),
        ({"prompt": []}, 400, "prompt is []: give a text"),
        ({"n": 0}, 400, "n is 0: give a number from 1 to 128"),
        ({"n": 129}, 400, "n is 129: give a number from 1 to 128"),
        ({"n": 2, "best_of": 3}, 400, "best_of is 3, which this server cannot do: leave it out, all n texts"),
        ({"min_p": 2}, 400, "min_p is 2.0: give a number from 0 to 1"),
        ({"echo": True}, 400, "echo is True"),
        ({"logprobs": 21}, 400, "logprobs is 21: give a number from 0 to 20"),
        ({"frequency_penalty": 2.5}, 400, "frequency_penalty is 2.5: give a number from -2 to 2"),
        ({"logit_bias": {"a": 1}}, 400, "logit_bias has 'a': give token ids, as texts"),
        ({"logit_bias": {"101": 1}}, 400, "logit_bias has 101: tokens are 0 to 100"),
        ({"min_tokens": 4, "max_tokens": 3}, 400, "min_tokens is 4: the text has at most 3 (max_tokens)"),
        (
            {"use_beam_search": True},
            400,
            "use_beam_search is True, which this server cannot do: model 'writer'",
        ),
        (
            {"length_penalty": 0.5},
            400,
            "length_penalty is 0.5, which this server cannot do: model 'writer' writes",
        ),
        ({"temperature": -1}, 400, "temperature is -1"),
        ({"structured_outputs": {"regex": "(a"}}, 400, "regex"),
        ({"structured_outputs": {}}, 400, "give exactly one of json, regex, choice"),
        ({"structured_outputs": {"choice": ["a", ""]}}, 400, "choice is empty, or has an empty text"),
        ({"structured_outputs": {"choice": []}}, 400, "choice is empty, or has an empty text"),
        ({"structured_outputs": {"json": None}}, 400, "structured_outputs is given, and its form is null"),
        ({"model": "other"}, 404, "no model that generates is named 'other'"),
        ({"messages": []}, 400, "messages is no field of this request"),
    ],
)
def test_refusals(address: str, stream: bool, change: dict[str, object], status: int, says: str) -> None:
    answer = ask(address, PATH, {"prompt": "a", "stream": stream} | change)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert says in answer.json["error"]["message"]


def test_options_of_a_stream_need_one(address: str) -> None:
    answer = ask(address, PATH, {"prompt": "a", "stream_options": {"include_usage": True}})
    assert (answer.status, "stream is not: set it to true" in answer.text) == (400, True)
