"""A page of metrics with every family in it: of calls, and of a real engine that has computed something."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from rankport.protos.types import ModelDescription
from rankport.runtime.backends.contract import RecordingCounts
from rankport.runtime.backends.set_contract import RowCounts
from rankport.runtime.kinds.capabilities import IdCounts, ModelCounts
from rankport.runtime.server.observing.book import CallBook
from rankport.runtime.server.observing.call import Call
from rankport.runtime.server.observing.metrics import ServerMetrics
from rankport.runtime.server.observing.state import KnownScores, ServerState
from rankport.runtime.store.hot_tokens import StoreCounts
from support.engines import ITEMS, running, scored
from support.reference_backend import ReferenceBackend, submit, token_run
from support.servers.deterministic_models import description

MODEL = "jobs@1"
RECORDINGS = RecordingCounts(launched=20, recorded=21, replayed=22, recording_s=2.5)
ID_ROWS = RowCounts(resident=23, sent=24, kept=25)
STORE = StoreCounts(host_keys=5, store_keys=4, missing_keys=3, host_kept=2, device_keys=1, device_kept=7)

IDS = {"item": IdCounts(found=26, unknown=27)}


def metric_page() -> str:
    """Writes the page of a server with one ranker that has scored three items behind a prefix, twice."""
    book = CallBook()
    call = Call("grpc", "Scoring.Score", "id", model=MODEL, thread_s=0.001, tokenize_s=0.002, depth=3)
    book.add(call, "OK", 0.03)
    book.add(Call("grpc", "Scoring.Score", "id", model=MODEL, priority="background", nbytes=9), "OK", 0.2)
    with running(ReferenceBackend()) as engine:
        for _ in range(2):
            scored(submit(engine, token_run(1, 2), ITEMS))
        recorded = replace(engine.counts(), recordings=RECORDINGS, rows=ID_ROWS)
        counts = ModelCounts({"cpu": recorded}, engine.cache_stats(), STORE, IDS)
    described: ModelDescription = replace(description("jobs", "ranker"), version="1")
    state = ServerState(
        pending_requests=6,
        pending_bytes=7,
        open_calls=8,
        overloads=9,
        saturated_s=1.5,
        reasons={MODEL: "is stuck"},
        models={MODEL: described},
        counts={MODEL: counts},
        scores=KnownScores(hits=10, misses=11, entries=12, nbytes=13),
        refusals={("background", "deadline"): 14},
    )
    return ServerMetrics(book, lambda: state).page().decode()


def metric_values(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Reads values by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
