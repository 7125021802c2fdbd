"""Ways to serve one ranker by key, side by side: one process with device tokens, fronts with them, and fronts without.

Each has a store of its own with the same titles. The device is this machine's memory: see `resident_backend`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.hosted_engine import load_hosted
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.processes.engine_host import EngineHost
from rankport.runtime.server.server import Server
from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from rankport.sdk import Client
from support.hash_encoder import HashEncoder, ServedHashEncoder
from support.reference_backend import HIDDEN
from support.resident_backend import ROW_BYTES

CUDA = EngineConfig(device="cuda", threads=1, max_batch_tokens=1024)
TITLES = [
    "chief cook",
    "data engineer",
    "machine operator",
    "nurse",
    "welder",
]  # as the store has them in order
ROOM = 3  # items on the device


def with_room(items: int) -> EngineConfig:
    """Settings by which so many items of 2 tokens stay on the device."""
    return replace(CUDA, device_tokens_bytes=items * 2 * ROW_BYTES, device_tokens_refresh_s=0.05)


def make_store(path: Path, encoder: HashEncoder, dtype: str = "float16") -> Path:
    """Writes the titles' tokens, by title."""
    with open_store(path, create=True) as store:
        store.namespace(encoder.fingerprint, TokenSpec(2, HIDDEN, dtype), create=True)
        put(store, encoder, {title: title for title in TITLES})
    return path


def put(store: TokenStore, encoder: HashEncoder, texts: dict[str, str]) -> None:
    """Writes the tokens of texts by key."""
    namespace = store.namespace(encoder.fingerprint)
    rows = namespace.spec.as_read(encoder.encode(list(texts.values())))
    marks = (text.encode().ljust(16)[:16] for text in texts.values())
    namespace.put_many(
        [TokenEntry(key, row, mark) for key, row, mark in zip(texts, rows, marks, strict=True)]
    )


@dataclass(frozen=True, slots=True)
class Side:
    """One way to serve, with its store."""

    store: TokenStore
    ranker: Ranker
    client: Client


@contextmanager
def sides(
    folder: Path,
    bundle: Bundle,
    encoder: ServedHashEncoder,
    *,
    dtype: str = "float16",
    read_only: bool = False,
    score_cache_bytes: int = 0,
) -> Iterator[list[Side]]:
    """One process with device tokens, fronts with them, and fronts without."""
    kept = with_room(ROOM)
    with ExitStack() as opened:
        served = []
        for index, (config, remote) in enumerate(((kept, False), (kept, True), (CUDA, True))):
            path = make_store(folder / f"store-{index}", encoder, dtype)
            store = opened.enter_context(open_store(path, read_only=read_only))
            if remote:
                socket = str(folder / f"engine-{index}")
                load = partial(load_hosted, store=store if config.device_tokens_bytes else None)
                opened.callback(EngineHost(socket, config, lambda: None, load).close)
                config = replace(config, engines_at=(socket,))
            ranker = opened.enter_context(Ranker.load(bundle, store=store, config=config))
            server_config = ServerConfig(port=0, grace_s=5.0, score_cache_bytes=score_cache_bytes)
            server = opened.enter_context(Server({"mix": ranker, "encoder": encoder}, server_config))
            client = opened.enter_context(Client(server.address, "mix", timeout_s=60))
            served.append(Side(store, ranker, client))
        yield served
