"""Items that a request takes from its client's quota: each once, whatever the path."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.tokens import Limits, line_of, new_token
from support.servers.http import ask
from support.servers.serving import HTTP, Serving, serving

TEXTS = [f"text {number}" for number in range(40)]
BODIES: dict[str, object] = {
    "/v2/rerank": {"model": "ranker", "query": "a", "documents": TEXTS},
    "/v1/rerank": {"query": "a", "documents": TEXTS},
    "/rerank": {"query": "a", "texts": TEXTS},
    "/v1/ranking": {
        "model": "ranker",
        "query": {"text": "a"},
        "passages": [{"text": text} for text in TEXTS],
    },
    "/score": {"text_1": TEXTS, "text_2": TEXTS},
    "/v1/score": {"queries": "a", "documents": TEXTS},
    "/v1/rankport/score": {"prefix": "a", "items": TEXTS},
    "/v1/embeddings": {"input": TEXTS},
    "/embed": {"inputs": TEXTS},
}


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    return {path: new_token(path.strip("/").replace("/", "-")) for path in BODIES}


@pytest.fixture(scope="module")
def limited(tokens: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server whose clients have a quota of 36 items an hour, which no test waits for."""
    file = tmp_path_factory.mktemp("clients") / "clients.txt"
    lines = (line_of(token, ["call"], Limits(0.01)) for token in tokens.values())
    file.write_text("".join(f"{line}\n" for line in lines))
    with serving(replace(HTTP, security=SecurityConfig(token_file=str(file)))) as running:
        yield running


@pytest.mark.parametrize("path", BODIES)
def test_each_item_is_taken_from_the_quota_once(limited: Serving, tokens: dict[str, str], path: str) -> None:
    sent = {"authorization": f"Bearer {tokens[path]}"}
    taken, refused = (ask(limited.server.http_address, path, BODIES[path], sent) for _ in range(2))
    assert taken.status == 200
    assert (refused.status, refused.headers["rankport-error"]) == (429, "QuotaExceeded")
    assert 3_900_000 < int(refused.headers["retry-after-ms"]) < 4_600_000  # 41 items, and up to 10 % later
