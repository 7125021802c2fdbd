"""Server of deterministic models with an HTTP port, for all tests of a module that leave it as it is."""

from collections.abc import Iterator

import pytest

from support.servers.serving import HTTP, Serving, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving(HTTP) as running:
        yield running


@pytest.fixture(scope="module")
def address(served: Serving) -> str:
    return served.server.http_address
