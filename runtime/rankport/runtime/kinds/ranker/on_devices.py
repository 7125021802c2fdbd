"""The engines of a ranker: one a device, and the embedding tokens that they keep there."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.contract import TokenTable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.remote import RemoteRankerEngine
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.device_catalogue import OwnedTable, ResidentTokens
from rankport.runtime.store.named_items import NamedItems

ScoringEngine = Engine | RemoteRankerEngine
"""An engine of a ranker, in this process or another."""


@dataclass(frozen=True, slots=True)
class RankerEngines:
    """Engines and tables that a ranker computes with. Whoever takes them closes the engines, then calls `close`."""

    engines: Replicas[ScoringEngine]
    resident: ResidentTokens | NamedItems | None
    close: Callable[[], None]


def ranker_engines(bundle: Bundle, config: EngineConfig, tokens: TokenNamespace | None) -> RankerEngines:
    """Loads the bundle on every device of `config`, and `tokens` beside it if they are to stay there.

    Raises as `load_prefix_backend`; `StoreError` if tokens cannot be read; `InvalidRequest` if there are none to keep.
    """
    keep = config.device_tokens_bytes > 0 and bundle.manifest.embedding is not None
    if keep and tokens is None:
        raise InvalidRequest(
            f"device_tokens_bytes is {config.device_tokens_bytes}, but the ranker was loaded without a token store: "
            "give it one (store, --store)"
        )
    with ExitStack() as opened:
        engines: dict[int, ScoringEngine] = {}
        tables = {}
        for gpu in config.device_ids:
            if config.engines_at:
                engines[gpu] = RemoteRankerEngine(bundle, config, gpu)
                opened.callback(engines[gpu].close)
                continue
            engine, table = engine_of(bundle, config, gpu)
            opened.callback(engine.close)
            engines[gpu] = engine
            if table is not None:
                tables[gpu] = OwnedTable(table, engine.call)
        resident = None
        if keep and tokens is not None:
            resident = _resident(tokens, engines, tables, config.device_tokens_refresh_s)
        opened.pop_all()
    return RankerEngines(
        Replicas(engines, config.max_batch_tokens),
        resident,
        lambda: None if resident is None else resident.close(),
    )


def engine_of(bundle: Bundle, config: EngineConfig, gpu: int = 0) -> tuple[Engine, TokenTable | None]:
    """Loads an engine on one device, its passes recorded, and gives the table of tokens there, if there is one.

    Raises as `load_prefix_backend`.
    """
    from rankport.runtime.backends.choice import load_prefix_backend, record_passes

    backend = load_prefix_backend(bundle, config, gpu=gpu)
    table = backend.table
    engine = Engine(backend, config)
    with ExitStack() as failed:
        failed.callback(engine.close)
        engine.call(lambda: record_passes(backend)).result()
        failed.pop_all()
    return engine, table


def _resident(
    tokens: TokenNamespace,
    engines: Mapping[int, ScoringEngine],
    tables: Mapping[int, OwnedTable],
    refresh_s: float,
) -> ResidentTokens | NamedItems:
    remote = [engine for engine in engines.values() if isinstance(engine, RemoteRankerEngine)]
    if not remote:
        return ResidentTokens(tokens, tables, refresh_s)
    return NamedItems(tokens.spec.tokens, lambda: max(engine.resident for engine in remote), refresh_s)
