"""Counters of calls, of models that come and go."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from rankport.runtime.config import DEFAULTS
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.observing.book import CallBook
from rankport.runtime.server.observing.call import Call
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.engines import WAIT_S
from support.servers.reference_bundles import REFERENCE_RANKER, reference_bundle


def counted(book: CallBook) -> list[set[str]]:
    """Models that each of the counters knows."""
    return [
        {key.model for key in book.ended()},
        set(book.shortened()),
        {model for _, model in book.seconds()},
        {model for model, _ in book.answered()},
        {model for model, _ in book.phases()},
    ]


def test_of_versions_that_are_unloaded_the_last_are_counted_and_of_those_served_all() -> None:
    book, served = CallBook(), {"stays@1", "1"}
    for model in ("stays@1", *map(str, range(12))):
        book.add(Call("grpc", "Scoring.Score", "", model=model, nbytes=1, tokenize_s=0.1, depth=1), "OK", 0.1)
    for gone in map(str, range(12)):
        book.let_go(gone, served)
    book.let_go("11", served)
    kept = {"stays@1", "1", *map(str, range(4, 12))}  # "1" was loaded again
    assert counted(book) == [kept] * 5


def test_a_server_forgets_the_counters_of_versions_that_are_long_gone(tmp_path: Path) -> None:
    roots = (str(tmp_path),)
    for version in "12":
        reference_bundle(tmp_path / version, "jobs", version, int(version))
    config = ServerConfig(port=0, grace_s=WAIT_S, model_roots=roots)
    with (
        ModelLoader.opened(None, DEFAULTS, [REFERENCE_RANKER], roots=roots) as loader,
        Server(loader.load_all([str(tmp_path / "1")]), config, loader) as server,
        Client(server.address, timeout_s=WAIT_S) as client,
    ):
        for version in range(9):
            client.admin.load("2", "nightly", str(version))
            with Client(server.address, f"nightly@{version}", timeout_s=WAIT_S) as caller:
                caller.score("q", ["a"])
            client.admin.unload(f"nightly@{version}")
        page = server.own_page().decode()
    (calls,) = [each for each in text_string_to_metric_families(page) if each.name == "rankport_calls"]
    models = {sample.labels["model"] for sample in calls.samples}
    assert models == {"", *(f"nightly@{version}" for version in range(1, 9))}
