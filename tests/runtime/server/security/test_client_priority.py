"""Clients that the file of tokens keeps to the background, over both fronts."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rankport.protos.errors import PermissionDenied
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, line_of, new_token
from rankport.sdk import Client
from support.servers.serving import HTTP, Serving, serving

NIGHTLY, SEARCH = new_token("nightly"), new_token("search")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    limits = {NIGHTLY: Limits(priority="background"), SEARCH: Limits()}
    file = tmp_path / "clients.txt"
    file.write_text("\n".join(line_of(token, ["call"], each) for token, each in limits.items()))
    with serving(replace(HTTP, security=SecurityConfig(token_file=str(file)))) as running:
        yield running


def test_its_requests_are_in_the_background_and_one_that_asks_for_more_is_refused(served: Serving) -> None:
    with Client(served.address, token=NIGHTLY, timeout_s=10) as client:
        client.score("q", ["a"])
        client.score("q", ["a"], priority="background")
        told = "x-priority is 'interactive': requests of client nightly are background alone; leave it out"
        with pytest.raises(PermissionDenied, match=told):
            client.score("q", ["a"], priority="interactive")
    with Client(served.address, token=SEARCH, timeout_s=10) as client:
        client.score("q", ["a"])
    assert served.ranker.worker.priorities == ["background", "background", "interactive"]


def test_over_http_as_well(served: Serving) -> None:
    def ask(**more: str) -> int:
        headers = {"authorization": f"Bearer {NIGHTLY}", "content-type": "application/json", **more}
        body = json.dumps({"query": "q", "texts": ["a"]}).encode()
        request = urllib.request.Request(f"http://{served.server.http_address}/rerank", body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert (ask(), ask(**{"x-priority": "interactive"})) == (200, 403)
    assert served.ranker.worker.priorities == ["background"]
