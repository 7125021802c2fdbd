"""Requests over HTTP, for tests of the server: the standard library's own client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    address: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    *,
    raw: bytes | None = None,
    latin: bool = False,
) -> Answer:
    """Posts a body as JSON, or raw; without one, gets the path. `latin`: a character of the answer is a byte."""
    content = raw if raw is not None else None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json", **(headers or {})} if content is not None else headers or {}
    connection = HTTPConnection(address, timeout=20)
    try:
        connection.request("GET" if content is None else "POST", path, content, sent)
        answer = connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, received, answer.read().decode("latin-1" if latin else "utf-8"))
    finally:
        connection.close()
