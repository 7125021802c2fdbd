"""Lines of a server: its addresses, that of HTTP where it has one."""

import json
from collections.abc import Callable

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.server.server import Server
from rankport.sdk.cli.output.serve import ServerLines
from support.servers.serving import HTTP, LOCAL, serving


@pytest.mark.parametrize("http", [False, True])
def test_the_ready_line_has_the_addresses(http: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(*([HTTP] if http else [])) as served:
        for json_log in (False, True):
            ServerLines(served.server, json_log).ready()
        address, http_address = served.server.address, served.server.http_address
    line, facts = capsys.readouterr().out.splitlines()
    assert line == f"ready on {address}" + (f" and http://{http_address}" if http else "")
    said = {"event": "ready", "address": address}
    assert json.loads(facts) == (said | {"http_address": http_address} if http else said)


def test_a_model_says_what_it_takes(
    set_bundle: Callable[[str, str], Bundle], seq2seq_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as served:
        ServerLines(served.server, False).models()
    with (
        SetRanker.load(set_bundle("ligr", "top"), config=EngineConfig(threads=1)) as ranker,
        Generator.load(seq2seq_bundle, config=EngineConfig(threads=1)) as generator,
        Server({"sets": ranker, "texts": generator}, LOCAL) as server,
    ):
        ServerLines(server, False).models()
    told = capsys.readouterr().out
    assert ", items as text" in told
    assert ", candidates of movie, user, genre, title, a score is a probability" in told
    assert " fp32, prompts of prefix, fingerprint " in told
