"""Embedding tokens that stay on a device: the same logits as sent ones, in one pass with them, and nothing sent."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.devices.resident.table import DeviceTable, token_table
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.runtime.tokens import EMBEDDED, TableRows, TokenRun, TokenRuns
from support import checkpoints
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_backend

pytestmark = pytest.mark.usefixtures("traces")

ENCODER = "0" * 64
HIDDEN, K, ROWS = 32, 2, 20
TOKENS = np.random.default_rng(5).normal(size=(8, K, HIDDEN)).astype(np.float16)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("table")
    return export(
        checkpoints.causal_lm(folder / "c", "qwen3"),
        folder / "b",
        kind="ranker",
        label_ids=(9, 17),
        item_encoder=ENCODER,
        embedding_tokens=K,
        target="onnx-cuda",
        max_prefix_tokens=40,
        max_item_tokens=24,
    )


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(bundle: Bundle, memory: HostMemory) -> Iterator[DevicePrefixBackend]:
    backend = host_backend(bundle, memory, ROWS)
    yield backend
    backend.close()
    assert not memory.alive


_IDS = np.array([EMBEDDED, EMBEDDED, 3])


def _sent(item: int) -> TokenRuns:
    return TokenRuns.of([TokenRun(_IDS, TOKENS[item])])


def _resident(place: int) -> TokenRuns:
    return TokenRuns.of_lengths(_IDS, [3], table=TableRows(np.arange(place * K, place * K + K), ()))


def _batch(*runs: TokenRuns) -> PrefixBatch:
    return PrefixBatch(((),), TokenRuns.join(runs), np.zeros(len(runs), np.int64))


def _expected(bundle: Bundle, *runs: TokenRuns) -> NDArray[np.float32]:
    plain = host_backend(bundle, HostMemory())
    logits = plain.score(_batch(*runs))
    plain.close()
    return logits


def test_resident_sent_and_text_items_share_a_pass(bundle: Bundle, device: DevicePrefixBackend) -> None:
    assert device.table is not None
    device.table.write(4, TOKENS[5].astype(np.float16))  # place 2
    device.table.write(ROWS - K, TOKENS[6])  # the last place
    text = TokenRuns.of([TokenRun(np.array([7, 8]))])
    found = device.score(_batch(_resident(2), _sent(1), text, _resident(ROWS // K - 1), _sent(5)))
    expected = _expected(bundle, _sent(5), _sent(1), text, _sent(6), _sent(5))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found[0], found[4], atol=1e-6)


def test_a_table_holds_what_a_graph_takes(memory: HostMemory) -> None:
    table = DeviceTable(memory, 4, 2, HIDDEN, "float16")
    table.write(1, TOKENS[0].astype(np.float32))
    array = table.with_sent(None)
    assert (array.dtype, array.shape) == ("float16", (6, HIDDEN))
    rows = memory.alive[array.pointer].view(np.float16).reshape(6, HIDDEN)
    np.testing.assert_array_equal(rows[1:3], TOKENS[0])
    assert not rows[[0, 3, 4, 5]].any()
    table.release()


def test_a_resident_item_sends_its_place_alone(device: DevicePrefixBackend, memory: HostMemory) -> None:
    assert device.table is not None
    device.table.write(0, TOKENS[:4].reshape(-1, HIDDEN))
    sent = memory.transfers.to_device
    device.score(_batch(*(_resident(place) for place in range(4))))
    of_places = memory.transfers.to_device - sent
    device.score(_batch(*(_sent(item) for item in range(4))))
    of_tokens = memory.transfers.to_device - sent - of_places
    assert of_tokens - of_places >= 4 * K * HIDDEN * 4


def test_a_write_is_behind_the_passes_before_it(bundle: Bundle, device: DevicePrefixBackend) -> None:
    assert device.table is not None
    device.table.write(0, TOKENS[0])
    before = device.start(_batch(_resident(0)))
    device.table.write(0, TOKENS[1])
    after = device.start(_batch(_resident(0)))
    np.testing.assert_allclose(before.results(), _expected(bundle, _sent(0)), atol=1e-5)
    np.testing.assert_allclose(after.results(), _expected(bundle, _sent(1)), atol=1e-5)


def test_passes_of_resident_items_are_recorded_alike_however_many_embeddings_come_with_them(
    bundle: Bundle, memory: HostMemory
) -> None:
    numbers: list[int | None] = []
    backend = host_backend(bundle, memory, ROWS, on_run=lambda fixed: numbers.append(fixed))
    for runs in ([_resident(0), _sent(1)], [_resident(0)] * 2) * 3:
        backend.score(_batch(*runs))
    backend.close()
    assert numbers == [None, None, 0, 0, 0, 0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    with open_store(tmp_path / "tokens", create=True) as opened:
        opened.namespace(ENCODER, TokenSpec(K, HIDDEN, "float16"), create=True)
        _put(opened, {f"k{item}": item for item in range(8)})
        yield opened


def _put(store: TokenStore, items: dict[str, int]) -> None:
    entries = [TokenEntry(key, TOKENS[item], bytes([item]) * 16) for key, item in items.items()]
    store.namespace(ENCODER).put_many(entries)


def test_a_ranker_scores_keys_alike_from_device_memory_and_from_the_store(
    bundle: Bundle, store: TokenStore, memory: HostMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [Key(f"k{item}") for item in range(8)]
    with Ranker.load(bundle, store=store, config=EngineConfig(threads=1)) as ranker:
        expected = ranker.score([5, 6, 7], [*keys, TOKENS[0], Key("none")])
    monkeypatch.setattr(
        "rankport.runtime.backends.choice.load_prefix_backend",
        lambda bundle, config, gpu: host_backend(bundle, memory, config.device_tokens_bytes // (HIDDEN * 4)),
    )
    room = EngineConfig(device="cuda", device_tokens_bytes=6 * K * HIDDEN * 4, device_tokens_refresh_s=0.02)
    asked: list[list[str]] = []
    namespace = store.namespace(ENCODER)
    with Ranker.load(bundle, store=store, config=room) as ranker:
        read = namespace.read

        def read_asked(keys: list[str]) -> object:
            asked.append(keys)
            return read(keys)

        monkeypatch.setattr(namespace, "read", read_asked)
        result = ranker.score([5, 6, 7], [*keys, TOKENS[0], Key("none")])
        np.testing.assert_allclose(result.logits, expected.logits, atol=1e-5)
        assert result.status == expected.status
        assert result.status[-1] == ItemStatus.NOT_FOUND
        assert asked == [["k6", "k7", "none"]]  # there is room for six
    assert not memory.alive


def test_tokens_stay_on_a_device_of_cuda_only_and_come_from_a_store(
    bundle: Bundle, memory: HostMemory
) -> None:
    with pytest.raises(InvalidRequest, match="a CPU has --host-tokens"):
        EngineConfig(device_tokens_bytes=1)
    config = EngineConfig(device="cuda", device_tokens_bytes=K * HIDDEN * 4 - 1)
    with pytest.raises(InvalidRequest, match="loaded without a token store"):
        Ranker.load(bundle, config=config)
    with pytest.raises(InvalidRequest, match=f"one item takes {K * HIDDEN * 4}"):
        token_table(bundle.manifest, config, memory)


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
def test_resident_tokens_on_cuda_give_the_logits_of_the_cpu(bundle: Bundle, store: TokenStore) -> None:
    keys = [Key(f"k{item}") for item in range(8)]
    with Ranker.load(bundle, store=store, config=EngineConfig(threads=1)) as ranker:
        expected = ranker.score([5, 6, 7], keys).logits
    room = EngineConfig(device="cuda", device_tokens_bytes=5 * K * HIDDEN * 4, prefix_cache_bytes=2**20)
    with Ranker.load(bundle, store=store, config=room) as ranker:
        for _ in range(5):  # recorded passes too
            np.testing.assert_allclose(ranker.score([5, 6, 7], keys).logits, expected, atol=1e-4)
