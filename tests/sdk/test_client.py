"""The blocking client answers, fails and cancels as a model in process does."""

import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from rankport.protos import errors
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.server.config import ServerConfig
from rankport.sdk import Client
from support.servers.serving import Serving, serving
from support.servers.supervised import eventually
from support.threads import all_asleep


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture
def client(served: Serving) -> Iterator[Client]:
    with Client(served.address, timeout_s=10) as client:
        yield client


def test_score_gives_the_result_of_the_ranker_in_process(served: Serving, client: Client) -> None:
    items = ["a", [1, 2], np.ones((2, 3), np.float32), Key("k"), Key("missing")]
    remote = client.score({"query": "nurse"}, items, truncation="truncate", on_missing="fail")
    local = served.ranker.score({"query": "nurse"}, items, truncation="truncate", on_missing="fail")
    assert np.array_equal(remote.scores, local.scores, equal_nan=True)
    assert np.array_equal(remote.logits, local.logits, equal_nan=True)
    assert remote.scores.dtype == remote.logits.dtype == np.float32
    assert (remote.status, remote.messages) == (local.status, local.messages)
    assert (remote.usage, remote.fingerprint) == (local.usage, local.fingerprint)


@pytest.mark.parametrize(
    ("remote", "local", "of_servers"),
    [
        (Client.score, Towers.score, ["priority"]),
        (Client.submit, Towers.submit, ["priority"]),
        (Client.encode, Towers.encode, ["fingerprint", "priority"]),
    ],
    ids=["score", "submit", "encode"],
)
def test_calls_take_the_arguments_of_the_models_in_process_and_those_of_servers(
    remote: Any, local: Any, of_servers: list[str]
) -> None:
    arguments, expected = (list(inspect.signature(call).parameters.values()) for call in (remote, local))
    assert [each.name for each in arguments if each.name in of_servers] == of_servers
    arguments = [each for each in arguments if each.name not in of_servers]
    assert [(each.name, each.kind, each.default) for each in arguments] == [
        (each.name, each.kind, each.default) for each in expected
    ]


@pytest.mark.parametrize(
    ("remote", "local"), [(Client.score, Ranker.score), (Client.encode, ItemEncoder.encode)]
)
def test_what_only_two_towers_take_comes_last(remote: Any, local: Any) -> None:
    arguments, expected = (list(inspect.signature(call).parameters) for call in (remote, local))
    assert arguments[: len(expected)] == expected


def test_submit_gives_a_future_of_the_same_result(client: Client) -> None:
    futures = [client.submit("q", [text]) for text in "abc"]
    scores = [future.result(timeout=10).scores[0] for future in futures]
    assert scores == [client.score("q", [text]).scores[0] for text in "abc"]


def test_encode_gives_the_tokens_of_the_encoder_in_process(served: Serving, client: Client) -> None:
    remote = client.encode(["a", [1, 2]])
    assert remote.dtype == np.float16
    assert np.array_equal(remote, served.encoder.encode(["a", [1, 2]]))


def test_describe_and_models_give_the_descriptions_of_the_models(served: Serving, client: Client) -> None:
    assert client.models() == (served.encoder.describe(), served.ranker.describe())
    assert client.describe("ranker") == served.ranker.describe()
    with Client(served.address, "encoder") as named:
        assert named.describe() == served.encoder.describe()
    with pytest.raises(errors.NotFound, match="this server has encoder, ranker; name one"):
        client.describe()


SERVER_ERRORS = [cls for cls in errors.STATUS_CODES if cls is not errors.DeadlineExceeded]


@pytest.mark.parametrize("cls", SERVER_ERRORS, ids=lambda cls: cls.__name__)
def test_an_error_of_the_server_is_raised_as_itself(served: Serving, cls: type[errors.RankportError]) -> None:
    served.ranker.fail_with = cls("item 3: 900 > 512")
    with Client(served.address, timeout_s=10, retry=False) as client:
        with pytest.raises(cls) as raised:
            client.score("q", ["a"])
        assert type(raised.value) is cls
        assert str(raised.value) == "item 3: 900 > 512"
        assert type(client.submit("q", ["a"]).exception(timeout=10)) is cls


def test_input_that_does_not_fit_the_wire_is_refused_before_a_call(served: Serving, client: Client) -> None:
    for call in (client.score, client.submit):
        with pytest.raises(errors.InvalidRequest, match="item 1 is an int"):
            call("q", ["a", 1])  # type: ignore[list-item]
    assert served.ranker.worker.timeouts == []


def test_no_answer_in_time_says_from_whom_and_how_long(served: Serving, client: Client) -> None:
    served.ranker.worker.gate.clear()
    with pytest.raises(errors.DeadlineExceeded, match=r"127.0.0.1:\d+ within 0.1 s"):
        client.score("q", ["a"], 0.1)
    with (
        Client(served.address, timeout_s=0.2) as impatient,
        pytest.raises(errors.DeadlineExceeded, match=r"within 0.2 s"),
    ):
        impatient.score("q", ["a"])


def test_a_deadline_that_the_server_tells_is_the_callers(served: Serving, client: Client) -> None:
    served.ranker.fail_with = errors.DeadlineExceeded("timeout_s=4.987 ran out")
    with pytest.raises(errors.DeadlineExceeded, match=r"within 5.0 s: allow more time"):
        client.score("q", ["a"], 5)


@pytest.mark.parametrize("timeout_s", [float("nan"), -1, "1", True])
def test_a_timeout_that_is_no_time_is_refused(served: Serving, client: Client, timeout_s: Any) -> None:
    for call in (client.score, client.submit):
        with pytest.raises(errors.InvalidRequest, match="timeout_s is"):
            call("q", ["a"], timeout_s)
    with pytest.raises(errors.InvalidRequest, match="timeout_s is"):
        client.encode(["a"], timeout_s)
    with pytest.raises(errors.InvalidRequest, match="timeout_s is"):
        list(client.encode_stream([("a", "a")], timeout_s))
    with pytest.raises(errors.InvalidRequest, match="timeout_s is"):
        Client(served.address, timeout_s=timeout_s)


def test_an_infinite_timeout_is_no_limit_whatever_the_clients_default(served: Serving) -> None:
    with Client(served.address, timeout_s=10) as client:
        client.score("q", ["a"], float("inf"))
    with Client(served.address, timeout_s=float("inf")) as client:
        client.score("q", ["a"])
    first, second = served.ranker.worker.timeouts
    assert first is None
    assert second is None


def test_items_and_texts_of_a_generator_are_sent(client: Client) -> None:
    scores = client.score("q", ["a", "b"]).scores
    assert np.array_equal(client.score("q", (text for text in "ab")).scores, scores)
    assert np.array_equal(client.submit("q", iter("ab")).result(timeout=10).scores, scores)
    assert np.array_equal(client.encode(text for text in "ab"), client.encode(["a", "b"]))


def test_cancelling_a_future_drops_the_work_at_the_server(served: Serving, client: Client) -> None:
    worker = served.ranker.worker
    worker.gate.clear()
    future = client.submit("q", ["a"])
    assert worker.arrived.acquire(timeout=10)
    assert future.cancel()
    later = client.submit("q", ["b"])
    assert worker.arrived.acquire(timeout=10)
    assert worker.cancelled.acquire(timeout=60)
    worker.gate.set()
    later.result(timeout=10)
    assert (worker.computed, worker.dropped) == (1, 1)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with (
        Client("127.0.0.1:1", timeout_s=10, retry=False) as client,
        pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1 cannot be reached"),
    ):
        client.score("q", ["a"])


@pytest.mark.parametrize("address", ["http://localhost:8500", "grpc://host:1", "", " ", None, 8500])
def test_an_address_that_is_none_is_refused_at_once(address: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"address is .*; give host:port"):
        Client(address)


def test_a_text_that_does_not_fit_a_stream_is_told_by_its_id(client: Client) -> None:
    texts: list[tuple[str, Any]] = [("first", "a"), ("second", None)]
    with pytest.raises(errors.InvalidRequest, match="text of id 'second': is None; give text"):
        list(client.encode_stream(texts))


def test_a_closed_client_says_so(served: Serving) -> None:
    client = Client(served.address)
    client.close()
    client.close()
    for call in (client.models, lambda: client.score("q", ["a"]), lambda: client.submit("q", ["a"])):
        with pytest.raises(errors.Unavailable, match="is closed"):
            call()


def test_a_message_over_the_servers_limit_is_not_called_an_overload() -> None:
    with (
        serving(ServerConfig(port=0, max_message_bytes=1000)) as served,
        Client(served.address) as client,
        pytest.raises(errors.LimitExceeded, match="send fewer items"),
    ):
        client.score("q", ["x" * 2000])


def test_metadata_over_the_limit_of_grpc_are_not_called_an_overload(served: Serving) -> None:
    with (
        Client(served.address, token="x" * 20_000) as client,
        pytest.raises(errors.LimitExceeded, match=r"received metadata size exceeds .*may have 8 KiB"),
    ):
        client.score("q", ["x"])


def test_compression_is_refused_as_what_it_is(served: Serving) -> None:
    options = [("grpc.default_compression_algorithm", grpc.Compression.Gzip)]
    with (
        Client(served.address, options=options) as client,
        pytest.raises(
            errors.InvalidRequest, match=r"takes no compressed messages: leave that out of options"
        ),
    ):
        client.score("q", ["a"])


def test_channel_options_override_the_defaults(served: Serving) -> None:
    options = [("grpc.max_send_message_length", 100)]
    with (
        Client(served.address, options=options) as client,
        pytest.raises(errors.LimitExceeded, match="larger than max"),
    ):
        client.score("q", ["x" * 2000])


def test_credentials_make_the_connection_secure(served: Serving) -> None:
    credentials = grpc.ssl_channel_credentials()
    with (
        Client(served.address, credentials=credentials, timeout_s=10, retry=False) as client,
        pytest.raises(errors.Unavailable),
    ):
        client.models()


def test_a_stream_encodes_pairs_in_order_and_reports_bad_ones(client: Client) -> None:
    pairs = [(str(index), "bad" if index % 7 == 3 else f"text {index}") for index in range(40)]
    results = list(client.encode_stream(iter(pairs), chunk_texts=6))
    assert [result.id for result in results] == [id for id, _ in pairs]
    for (_, text), result in zip(pairs, results, strict=True):
        assert result.status is (ItemStatus.FAILED if text == "bad" else ItemStatus.OK)
        assert bool(result.message) == (text == "bad")
        if text != "bad":
            assert np.array_equal(result.embeddings, client.encode([text])[0])


def test_an_error_of_the_source_is_raised_after_the_results_before_it(client: Client) -> None:
    def pairs() -> Iterator[tuple[str, str]]:
        yield "1", "a"
        yield "2", "b"
        raise OSError("disk")

    results = client.encode_stream(pairs(), chunk_texts=2)
    assert [next(results).id, next(results).id] == ["1", "2"]
    with pytest.raises(OSError, match="disk"):
        next(results)


def test_a_stream_is_slowed_down_to_the_pace_of_the_server(served: Serving, client: Client) -> None:
    served.encoder.worker.gate.clear()
    drawn = []

    def pairs() -> Iterator[tuple[str, str]]:
        for index in range(20_000):  # 200 MB in all
            drawn.append(index)
            yield str(index), "x" * 10_000

    results = client.encode_stream(pairs(), truncation="truncate")
    first = ThreadPoolExecutor(1).submit(next, results)
    looks: list[int] = []

    def stands_still() -> bool:
        """Whether the buffers in between are full, or all is drawn: nobody has anything to do."""
        looks.append(len(drawn) if all_asleep() else -1)
        return len(looks) > 3 and len(set(looks[-3:])) == 1 and looks[-1] > 0

    eventually(stands_still)
    assert len(drawn) < 5000
    served.encoder.worker.gate.set()
    assert first.result(timeout=10).id == "0"
    results.close()  # type: ignore[attr-defined]


def test_a_stream_whose_server_fails_raises_its_error(served: Serving, client: Client) -> None:
    with Client(served.address, "nobody") as lost, pytest.raises(errors.NotFound, match="nobody"):
        list(lost.encode_stream([("1", "a")]))
    with pytest.raises(errors.InvalidRequest, match="chunk_texts is 0"):
        list(client.encode_stream([("1", "a")], chunk_texts=0))
    for pair in ("ab", ("1", "a", "b"), 5):
        with pytest.raises(errors.InvalidRequest, match=r"texts has .*; give pairs of an id and a text"):
            list(client.encode_stream([pair]))  # type: ignore[list-item]
