"""Bodies of any kind: answered or refused with the caller's own statuses, never a failure of the server."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.http.forms import Form, read_form
from rankport.runtime.server.http.routes import ROUTES
from support.effort import scale
from support.servers.http import ask
from support.servers.serving import Serving

NAMES = sorted(
    {name for choices in ROUTES.values() for choice in choices for name in choice.dialect.form.model_fields}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["ranker", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "key", "fields", "token_ids", "embeddings"]), inner, max_size=2
        )
    ),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)
# As a client would write it, for the most part.
LIKELY = st.fixed_dictionaries(
    {"query": st.text(max_size=3)},
    optional={
        "documents": st.lists(st.text(max_size=3), max_size=3),
        "texts": st.lists(st.text(max_size=3), max_size=3),
        "items": st.lists(VALUES, max_size=3),
        "prefix": VALUES,
        "top_n": st.integers(),
        "truncate": VALUES,
        "features": VALUES,
    },
)


@settings(max_examples=scale(60))
@given(path=st.sampled_from(sorted(ROUTES)), body=BODIES | LIKELY)
def test_any_json_is_answered_or_refused(served: Serving, path: str, body: dict[str, object]) -> None:
    answer = ask(served.server.http_address, path, body)
    assert answer.status in (200, 400, 404, 413), answer.text
    assert answer.json is not None


@pytest.mark.parametrize(
    "body",
    [
        '{"query": "a", "documents": ["b"], "query": "c"}',
        '{"query": "a", "documents": [{"text": "b", "text": "c"}]}',
        r'{"query": "a", "documents": ["\":"], "top_n": 1, "top_\u006e": 0}',
    ],
)
def test_a_name_that_comes_twice_is_refused(served: Serving, body: str) -> None:
    answer = ask(served.server.http_address, "/rerank", raw=body.encode())
    assert answer.status == 400
    assert "is given twice in one object" in answer.text


def test_text_that_looks_like_names_is_text(served: Serving) -> None:
    body = {"model": "ranker", "query": '"query": "query":', "documents": [{"text": '"text":'}, '"a" : ']}
    answer = ask(served.server.http_address, "/rerank", body)
    assert answer.status == 200, answer.text


@settings(max_examples=scale(30))
@given(path=st.sampled_from(sorted(ROUTES)), raw=st.binary(max_size=40))
def test_any_bytes_are_refused(served: Serving, path: str, raw: bytes) -> None:
    answer = ask(served.server.http_address, path, raw=raw)
    assert (answer.status, answer.headers["rankport-error"]) == (400, "InvalidRequest")


def test_names_that_only_numbers_in_brackets_tell_apart_are_two() -> None:
    class Named(Form):
        fields: dict[str, str]

    body = b'{"fields": {"a[1]": "b", "a[2]": "c"}}'
    assert read_form(body, Named).fields == {"a[1]": "b", "a[2]": "c"}
    with pytest.raises(InvalidRequest, match="key 'a\\[1\\]' is given twice"):
        read_form(body.replace(b"a[2]", b"a[1]"), Named)
