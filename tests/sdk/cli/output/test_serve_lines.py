"""Lines of a server: its addresses, that of HTTP where it has one."""

import json

import pytest

from rankport.sdk.cli.output.serve import ServerLines
from support.servers.serving import HTTP, serving


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
