"""Pages, health, metrics and the list of models."""

import re
from dataclasses import replace
from html.parser import HTMLParser

from rankport.runtime.server.http.routes import ROUTES
from rankport.runtime.server.observing.config import ObservingConfig
from support.servers.http import ask
from support.servers.serving import HTTP, Serving, serving
from support.servers.supervised import eventually


class _Page(HTMLParser):
    """Texts and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_status_page_shows_models_calls_queues_and_failures_and_loads_nothing() -> None:
    with serving(HTTP) as served:
        address = served.server.http_address
        assert ask(address, "/rerank", {"query": "private words", "texts": ["more of them"]}).status == 200
        served.ranker.fail_with = ValueError("<b>")
        assert ask(address, "/rerank", {"query": "a", "texts": ["b"]}).status == 500
        answer = ask(address, "/")
    page = _Page(answer.text)
    assert {"ready", "ranker", "encoder", "p50", "p99", "requests pending", "BackendError"} <= set(page.texts)
    assert page.texts[page.texts.index("answered") + len(served.server.counts.snapshot())] == "1"
    assert "script" not in page.tags
    assert all(address.startswith("/") for address in page.addresses)
    assert "private" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_of_endpoints_lists_each_path_and_field(address: str) -> None:
    texts = set(_Page(ask(address, "/docs").text).texts)
    assert {f"POST {path}" for path in ROUTES} <= texts
    fields = {
        name for choices in ROUTES.values() for choice in choices for name in choice.dialect.form.model_fields
    }
    assert fields <= texts


def test_the_openapi_document_refers_to_what_it_has(address: str) -> None:
    described = ask(address, "/openapi.json")
    assert described.json["openapi"] == "3.1.0"
    named = set(re.findall(r'"#/components/schemas/(\w+)"', described.text))
    assert named == set(described.json["components"]["schemas"])
    assert set(described.json["paths"]) > set(ROUTES)
    assert described.json["paths"]["/v2/rerank"]["post"]["responses"]["429"] == {
        "description": "Overloaded, QuotaExceeded"
    }


def test_one_model_is_told_by_any_name_that_requests_may_use(address: str) -> None:
    (ranker, _) = ask(address, "/v1/models").json["data"]
    assert ask(address, "/v1/models/ranker").json == ranker
    assert ask(address, "/v1/models/ranker@1").json == ranker | {"id": "ranker@1"}
    for name in ("other", "org/other"):  # names may have slashes, as those of the Hub
        unknown = ask(address, f"/v1/models/{name}")
        assert (unknown.status, unknown.json["error"]["type"]) == (404, "NotFound")
        assert f"named {name!r}" in unknown.json["error"]["message"]


def test_an_address_in_the_place_of_a_path_is_one_of_this_server(address: str) -> None:
    for host in ("http://other.example:80", "HTTPS://[::1]"):
        assert ask(address, f"{host}/v1/models/ranker").json["id"] == "ranker"
        assert ask(address, host).text == ask(address, "/").text
        assert ask(address, f"{host}/rerank", {"query": "a", "texts": ["b"]}).status == 200
    assert ask(address, "ftp://other.example/health").status == 404


def test_names_that_a_client_makes_up_are_no_labels(address: str) -> None:
    assert ask(address, "/v1/models/made-up", {}).status == 405
    assert ask(address, "/v1/retrieval/made-up/made-up/reranking", {}).status == 400
    metrics = ask(address, "/metrics").text
    assert 'method="/v1/models/{model}"' in metrics
    assert "made-up" not in metrics


def test_models_are_listed_with_what_scores_first(address: str) -> None:
    reply = ask(address, "/v1/models").json
    assert [(model["id"], model["kind"]) for model in reply["data"]] == [
        ("ranker", "ranker"),
        ("encoder", "item-encoder"),
    ]
    assert reply["data"][0]["read_out"] == "logit of sum"
    assert reply["limits"]["items"] == 100_000


def test_metrics_count_calls_by_outcome() -> None:
    with serving(HTTP) as served:
        ask(served.server.http_address, "/rerank", {"query": "a", "texts": ["b"]})
        ask(served.server.http_address, "/rerank", {"query": "a"})
        lines = ask(served.server.http_address, "/metrics").text.splitlines()
    labels = 'front="http",method="/rerank"'
    assert f'rankport_calls_total{{code="OK",{labels},model="ranker@1"}} 1.0' in lines
    assert f'rankport_calls_total{{code="INVALID_ARGUMENT",{labels},model=""}} 1.0' in lines
    assert "rankport_pending_requests 0.0" in lines


def test_health_tells_a_model_that_does_not_answer() -> None:
    with serving(HTTP) as served:
        address = served.server.http_address
        assert ask(address, "/health/ready").json == {"status": "ready"}
        served.ranker.worker.alive = False
        while (answer := ask(address, "/health")).status == 200:
            pass
        reasons = {"ranker": "cannot read its token store, or its files: a request for it says why"}
        assert answer.json == {"status": "not ready", "not_answering": ["ranker"], "reasons": reasons}
        assert ask(address, "/health/live").status == 200
        served.ranker.worker.alive = True


def test_a_server_with_a_pass_that_does_not_end_is_not_live() -> None:
    with serving(replace(HTTP, observing=ObservingConfig(stuck_pass_s=1.0))) as served:
        address = served.server.http_address
        served.ranker.silent_s = 4.0
        eventually(lambda: ask(address, "/health/ready").status == 503)
        assert ask(address, "/health/live").status == 200
        served.ranker.silent_s = 5.0
        eventually(lambda: ask(address, "/health/live").status == 503)
        assert not served.server.goes_on()
        served.ranker.silent_s = 0.0
        eventually(lambda: ask(address, "/health/live").status == 200)
        eventually(served.server.goes_on)


def test_looks_are_answered_whatever_is_pending(served: Serving, address: str) -> None:
    before = served.server.counts.snapshot()
    for path in ("/", "/docs", "/health", "/metrics", "/v1/models", "/openapi.json"):
        assert ask(address, path).status == 200
    assert served.server.counts.snapshot() == before
