"""docs/http.md: its commands are answered, and its table has the paths and statuses that there are."""

import json
import re
import shlex
from pathlib import Path

import pytest

from rankport.protos.errors import HTTP_STATUSES
from rankport.runtime.server.http.routes import ROUTES
from support.servers.http import Answer, ask
from support.servers.serving import HTTP, serving

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]


def curl(address: str, command: str) -> Answer:
    program, place, *options = shlex.split(command)
    assert program == "curl"
    given = [*zip(options[::2], options[1::2], strict=True)]
    headers = dict(text.split(": ") for name, text in given if name == "-H")
    bodies = [json.loads(text) for name, text in given if name == "-d"]
    return ask(address, place.removeprefix("localhost:8080"), *bodies, headers=headers)


def test_its_commands_are_answered() -> None:
    assert len(COMMANDS) == 5
    with serving(HTTP) as served:
        answers = [curl(served.server.http_address, command) for command in COMMANDS]
    assert [answer.status for answer in answers] == [200] * 5
    best, cohere, own, embeddings, health = (answer.json for answer in answers)
    assert [result["document"] for result in best["results"]] == [{"text": "spot welder"}]
    assert [result["index"] for result in cohere["results"]] == [0, 1]
    assert len(own["scores"]) == 2
    assert len(embeddings["data"]) == 1
    assert health == {"status": "ready"}


@pytest.mark.parametrize("path", ROUTES)
def test_every_endpoint_is_in_the_table(path: str) -> None:
    assert re.search(rf"`(POST )?{re.escape(path)}`", PAGE)


def test_every_status_is_told() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)
    assert {int(status) for row in rows for status in row.split(",")} == set(HTTP_STATUSES.values())
