"""Rows of ids on a device of host memory: logits whatever lies there, bytes that cross, and bundles of before."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.exporters.export import export
from rankport.exporters.kinds.set_ranker.proof.modes import ask
from rankport.exporters.kinds.set_ranker.proof.samples import SetSample, draw_samples
from rankport.protos.errors import BackendError, InvalidRequest, Unavailable
from rankport.protos.sets import SetColumns
from rankport.runtime.backends import choice
from rankport.runtime.backends.devices.memory import Buffer
from rankport.runtime.backends.devices.sets import DeviceSetBackend
from rankport.runtime.backends.ort.sets import OnnxRuntimeSetBackend
from rankport.runtime.backends.set_contract import FeatureRows, History, RowCounts
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import CUDA_DEFAULTS, EngineConfig, engine_config
from rankport.runtime.kinds.set_ranker.gather import Gatherer
from rankport.runtime.kinds.set_ranker.rules import RULES
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.kinds.set_ranker.tables import RowTables
from support.effort import every_run, scale
from support.gpu.host_device import HostMemory, host_sets
from support.sets.rankers import set_checkpoint, set_config, set_model
from support.sets.requests import by_id, candidates

pytestmark = pytest.mark.usefixtures("traces")

WHOLE = 2**20
"""Bytes that hold all rows of the small rankers."""


@pytest.fixture(scope="module", params=every_run(["int8", "float16", "float32"], {"int8", "float16"}))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """fp32 for both targets."""
    folder = tmp_path_factory.mktemp("sets")
    checkpoint = set_checkpoint(folder / "c", "ligr", policy="set-wise")
    targets = "onnx-cpu,onnx-cuda"
    return export(checkpoint, folder / "b", kind="set-ranker", target=targets, table_dtype=request.param)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two tables of 64 values an id, of a history of 512 events and 2,048 candidates; for both targets."""
    folder = tmp_path_factory.mktemp("wide")
    ids = [{"source": "id", "name": name, "table": name} for name in ("item", "author")]
    sets = {
        "tables": {"item": {"rows": 20_000, "width": 64}, "author": {"rows": 4000, "width": 64}},
        "event": [*ids, {"source": "scalar", "name": "dwell", "scaling": "none"}],
        "candidate": [*ids, {"source": "dense", "name": "counts", "width": 3}],
        "mask": {"policy": "independent"},
        "times": True,
        "max_events": 512,
        "max_candidates": 2048,
    }
    set_model(set_config("ligr", sets=sets)).save(folder / "c")
    targets = "onnx-cpu,onnx-cuda"
    return export(folder / "c", folder / "b", kind="set-ranker", target=targets, table_dtype="int8")


def of_before(bundle: Bundle) -> Bundle:
    """Views it as rankers of sets were exported for CUDA before: their graphs take what the host looked up."""
    graphs = [
        graph.model_copy(update={"target": "onnx-cuda"})
        for graph in bundle.for_target("onnx-cpu").manifest.graphs
    ]
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"graphs": graphs})).for_target("onnx-cuda")


def gathered(bundle: Bundle, columns: dict[str, np.ndarray], *, in_graph: bool) -> FeatureRows:
    assert bundle.manifest.sets is not None
    gatherer = Gatherer(bundle.manifest.sets, RowTables.open(bundle), in_graph=in_graph)
    return gatherer.rows(SetColumns.of(columns, "candidates"), "candidates").features


@pytest.fixture(scope="module")
def backends(bundle: Bundle) -> Iterator[dict[str, DeviceSetBackend | OnnxRuntimeSetBackend]]:
    view = bundle.for_target("onnx-cuda")
    loaded: dict[str, DeviceSetBackend | OnnxRuntimeSetBackend] = {
        "one pass": host_sets(view, HostMemory()),
        "some": host_sets(view, HostMemory(), rows_bytes=400),
        "all": host_sets(view, HostMemory(), rows_bytes=WHOLE),
        "cpu": OnnxRuntimeSetBackend(view, stored=RowTables.open(bundle)),
        "host": OnnxRuntimeSetBackend(bundle.for_target("onnx-cpu")),
    }
    yield loaded
    for backend in loaded.values():
        backend.close()


IDS = st.lists(st.tuples(st.integers(-2, 52), st.integers(-(2**62), 2**62)), min_size=1, max_size=16)


@settings(max_examples=scale(25), deadline=None)
@given(st.lists(IDS, min_size=1, max_size=6))
def test_logits_are_equal_to_the_bit_whatever_is_resident(
    bundle: Bundle,
    backends: dict[str, DeviceSetBackend | OnnxRuntimeSetBackend],
    passes: list[list[tuple[int, int]]],
) -> None:
    """Hits, misses, rows that give way, unknown ids and hashed ones, in any order; what came before stays there."""
    for ids in passes:
        columns = candidates(len(ids))
        columns["movie"], columns["user"] = (np.array(column, np.int64) for column in zip(*ids, strict=True))
        found, looked_up = (gathered(bundle, columns, in_graph=in_graph) for in_graph in (True, False))
        logits = {
            name: backend.start(
                History.nothing(), 5, looked_up if name == "host" else found, np.zeros(len(ids), np.int64)
            ).results()
            for name, backend in backends.items()
        }
        np.testing.assert_array_equal(logits["one pass"], logits["all"])
        np.testing.assert_array_equal(logits["some"], logits["all"])
        np.testing.assert_allclose(logits["cpu"], logits["all"], atol=1e-6)
        np.testing.assert_allclose(logits["host"], logits["all"], atol=1e-6)


def test_ids_by_key_lie_on_a_device_as_the_rows_that_they_name(
    bundle: Bundle,
    backends: dict[str, DeviceSetBackend | OnnxRuntimeSetBackend],
    tmp_path: Path,
) -> None:
    """Only the host looks for keys: slots, blocks and graphs are of rows, and logits are equal to the bit."""
    assert bundle.manifest.sets is not None
    checkpoint = set_checkpoint(tmp_path / "c", "ligr", policy="set-wise", keyed=True)
    dtype = bundle.manifest.sets.files["movie"].dtype
    keyed = export(checkpoint, tmp_path / "b", kind="set-ranker", target="onnx-cuda", table_dtype=dtype)
    backend = host_sets(keyed.for_target("onnx-cuda"), HostMemory(), rows_bytes=400)
    for seed in range(4):
        columns, sessions = candidates(16, seed), np.zeros(16, np.int64)
        found = gathered(keyed, by_id(columns), in_graph=True)
        np.testing.assert_array_equal(found.places, gathered(bundle, columns, in_graph=True).places)
        logits = backend.start(History.nothing(), 5, found, sessions).results()
        by_row = gathered(bundle, columns, in_graph=True)
        expected = backends["some"].start(History.nothing(), 5, by_row, sessions).results()
        np.testing.assert_array_equal(logits, expected)
    backend.close()


def test_a_bundle_of_before_loads_and_ranks_alike(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_before(bundle)
    assert bundle.manifest.sets is not None
    samples = draw_samples(bundle.manifest.sets)
    check_manifest(before.manifest, RULES)
    with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = [ask(ranker, sample) for sample in samples]
    backend = host_sets(before, HostMemory())
    monkeypatch.setattr(choice, "load_set_backend", lambda *_, **__: backend)
    with SetRanker.load(before) as ranker:
        assert [each.rows for each in ranker.counts().engines.values()] == [None]
        for sample, logits in zip(samples, expected, strict=True):
            np.testing.assert_allclose(ask(ranker, sample), logits, atol=2e-5)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SetRanker]:
    """Loads a ranker over a device of host memory."""

    def loaded(view: Bundle, memory: HostMemory, rows_bytes: int = 0) -> SetRanker:
        backend = host_sets(view, memory, rows_bytes=rows_bytes)
        monkeypatch.setattr(choice, "load_set_backend", lambda *_, **__: backend)
        return SetRanker.load(view)

    return loaded


def test_what_is_resident_is_not_sent(wide: Bundle, load: Callable[..., SetRanker]) -> None:
    """512 events and 2,048 candidates, both new to the prefix cache: from 1.36 MB to the numbers of their rows."""
    sent: dict[str, list[int]] = {}
    for form, view, rows_bytes in (
        ("before", of_before(wide), 0),
        ("none kept", wide.for_target("onnx-cuda"), 0),
        ("kept", wide.for_target("onnx-cuda"), 2**30),
    ):
        memory = HostMemory()
        with load(view, memory, rows_bytes) as ranker:
            passes = []
            for shift in (0, 1):  # the same ids at other times, so that the history is read again
                before = memory.transfers.to_device
                ask(ranker, full_request(shift))
                passes.append(memory.transfers.to_device - before)
            sent[form] = passes
            (counts,) = ranker.counts().engines.values()
        if form == "kept":
            rows = sum(len(np.unique(ids)) for ids in drawn_ids())
            assert counts.rows == RowCounts(resident=2 * 2 * 2560 - rows, sent=rows, kept=rows)
    looked_up = 4 * (512 * 129 + 2048 * 131)
    assert all(looked_up < nbytes < looked_up + 40_000 for nbytes in sent["before"])
    kept, fresh = sent["kept"][1], sent["kept"][0]
    assert kept < looked_up / 20
    assert fresh < looked_up / 3
    assert sent["none kept"][1] < looked_up / 3
    # int8 with a scale each, and nothing else
    assert fresh - kept == rows * 68


def drawn_ids() -> list[np.ndarray]:
    """Draws items and authors of 2,560 events and candidates, the popular ones often."""
    rng = np.random.default_rng(0)
    return [np.minimum(rng.zipf(1.3, 2560), rows) - 1 for rows in (20_000, 4000)]


def full_request(shift: int) -> SetSample:
    items, authors = drawn_ids()
    return SetSample(
        history={"item": items[:512], "author": authors[:512], "dwell": np.zeros(512, np.float32)},
        candidates={"item": items[512:], "author": authors[512:], "counts": np.zeros((2048, 3), np.float32)},
        times=np.arange(512) + shift,
        now=1000,
        sessions=np.zeros(2048, np.int64),
    )


@pytest.mark.parametrize("change", ["cut", "written over"])
def test_a_table_that_changes_under_a_device_is_told_and_not_read(
    bundle: Bundle, load: Callable[..., SetRanker], tmp_path: Path, change: str
) -> None:
    copy = Bundle.open(shutil.copytree(bundle.path, tmp_path / "copy"), RULES)
    table = copy.path / "tables" / "movie.rows"
    with load(copy.for_target("onnx-cuda"), HostMemory(), WHOLE) as ranker:
        query = ranker.small_query()
        ranker.submit_rank(query).result()
        size = 10 if change == "cut" else table.stat().st_size
        with table.open("r+b") as file:
            file.truncate(size)
            file.write(b"\xff" * size)
        with pytest.raises(
            Unavailable, match=r"movie\.rows was written over or cut .*; load the model again"
        ):
            ranker.submit_rank(query)
        assert not ranker.alive


def test_a_device_without_room_says_which_option_is_too_large(bundle: Bundle) -> None:
    class Full(HostMemory):
        def allocate(self, nbytes: int) -> Buffer:
            raise BackendError("out of memory")

    with pytest.raises(BackendError, match=r"no 3\.0 GiB for rows of ids, .*: lower --device-rows \(out of"):
        host_sets(bundle.for_target("onnx-cuda"), Full(), rows_bytes=3 * 2**30)


def test_rows_are_kept_on_cuda_alone_and_there_by_default() -> None:
    assert CUDA_DEFAULTS.device_rows_bytes == 2**30
    assert engine_config("tensorrt").device_rows_bytes == engine_config("cpu").device_rows_bytes == 0
    with pytest.raises(
        InvalidRequest, match=r"device_rows_bytes is 5 with device 'cpu': .* leave --device-rows"
    ):
        EngineConfig(device_rows_bytes=5)


def test_many_threads_are_answered_as_one(bundle: Bundle, load: Callable[..., SetRanker]) -> None:
    """Callers read ahead while the device's thread writes rows over others."""
    assert bundle.manifest.sets is not None
    samples = draw_samples(bundle.manifest.sets)
    with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = [ask(ranker, sample) for sample in samples]
    with load(bundle.for_target("onnx-cuda"), HostMemory()) as ranker, ThreadPoolExecutor(6) as threads:
        asked = [place for _ in range(8) for place in range(len(samples))]
        answers = list(threads.map(lambda place: ask(ranker, samples[place]), asked))
    for place, logits in zip(asked, answers, strict=True):
        np.testing.assert_allclose(logits, expected[place], atol=2e-5)
