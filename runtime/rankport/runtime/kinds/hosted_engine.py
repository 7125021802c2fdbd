"""`HostedEngine`: an engine of this process that models of other processes use: columns in, columns out."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from rankport.protos.errors import BundleError
from rankport.protos.priorities import priority
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines.hosted import HostedWriting
from rankport.runtime.kinds.generator.engines.local import LocalWriting
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.on_devices import ranker_engines
from rankport.runtime.kinds.ranker.remote import scored_columns
from rankport.runtime.kinds.remote.messages import (
    AbsentKeysError,
    EngineOrder,
    EngineState,
    read_run,
    read_runs,
)
from rankport.runtime.kinds.remote_text_engine import rows_columns, weights_columns
from rankport.runtime.kinds.set_ranker.engine import SetEngine
from rankport.runtime.kinds.set_ranker.remote import logits_columns, read_input
from rankport.runtime.kinds.set_ranker.set_ranker import set_engine
from rankport.runtime.kinds.set_ranker.tables import RowTables
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.kinds.text_engines import text_engine
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.device_catalogue import ResidentTokens
from rankport.runtime.store.keyed_items import paired_tokens
from rankport.runtime.tokens import TableRows

Tell = Callable[[Columns], None]
"""Has parts of an answer sent, by the engine's thread, which it does not hold up."""


@dataclass(frozen=True, slots=True)
class HostedEngine:
    """An engine, and how its requests and answers are read and written. Any thread may call it."""

    engine: Engine | TextEngine | SetEngine | LocalWriting
    begin: Callable[[Columns, Tell], "Future[Columns]"]
    resident: ResidentTokens | None = None  # on its device; its requests name keys of them

    def submit(self, request: Columns, tell: Tell) -> "Future[Columns]":
        """Queues a request with the class that it has; `tell` is told parts of its answer. Raises as the engine."""
        with priority(request.values["priority"]):
            return self.begin(request, tell)

    def state(self) -> EngineState:
        """Tells how it is."""
        engine = self.engine
        cache = None if isinstance(engine, TextEngine) else engine.cache_stats()
        kept = 0 if self.resident is None else len(self.resident)
        return EngineState(engine.alive, engine.counts(), cache, kept)

    def close(self) -> None:
        """Drops what is queued, and frees the device's memory."""
        self.engine.close()
        if self.resident is not None:
            self.resident.close()


def load_hosted(order: EngineOrder, config: EngineConfig, store: TokenStore | None = None) -> HostedEngine:
    """Loads an engine on the one device of `config`, with the tokens of `store` that it keeps there.

    Raises as `open_bundle`, the kinds' load and `paired_tokens`.
    `BundleError` too if the bundle at the path is another one by now.
    """
    bundle = open_bundle(order.path)
    own = bundle.manifest.fingerprint
    if own != order.fingerprint:
        raise BundleError(
            f"bundle {order.path!r} has fingerprint {own[:12]}, it had {order.fingerprint[:12]} when the front opened "
            "it: load it again"
        )
    if order.role:
        role, row_of, gpu = cast(Any, order.role), cast(Any, order.row_of), config.device_ids[0]
        return hosted_texts(cast(TextEngine, text_engine(bundle, role, config, row_of, gpu)))
    if bundle.manifest.generation is not None:
        writing = HostedWriting(bundle, config)
        return HostedEngine(writing.engine, writing.begin)
    if bundle.manifest.sets is not None:
        engine = set_engine(bundle, RowTables.open(bundle), config, config.device_ids[0])
        return hosted_sets(cast(SetEngine, engine))
    tokens = None if store is None else paired_tokens(store, bundle.manifest)
    loaded = ranker_engines(bundle, config, tokens)
    return hosted_ranker(
        cast(Engine, loaded.engines.engines[0]), cast(ResidentTokens | None, loaded.resident)
    )


def hosted_texts(engine: TextEngine) -> HostedEngine:
    """Hosts an engine of texts."""

    def begin(request: Columns, _: Tell) -> "Future[Columns]":
        arrays, values = request.arrays, request.values
        texts, markers = read_runs("texts", arrays), arrays.get("markers")
        if "weights" in values:
            weights = engine.submit_weights(texts, values["timeout_s"], spent_s=values["spent_s"])
            return converted(weights, weights_columns)
        future = engine.submit(texts, values["timeout_s"], spent_s=values["spent_s"], markers=markers)
        return converted(future, rows_columns)

    return HostedEngine(engine, begin)


def hosted_ranker(engine: Engine, resident: ResidentTokens | None = None) -> HostedEngine:
    """Hosts an engine of a ranker, and the tokens that its requests name keys of.

    A request raises `AbsentKeysError`, before anything is queued, where some are not there.
    """

    def begin(request: Columns, _: Tell) -> "Future[Columns]":
        prefix, items = read_run("prefix", request.arrays), read_runs("items", request.arrays)
        values = request.values
        if items.table is not None:
            assert resident is not None, "keys of tokens that are on no device"
            items = replace(items, table=_located(items.table, resident))
        future = engine.submit(prefix, items, values["timeout_s"], spent_s=values["spent_s"])
        return converted(future, scored_columns)

    return HostedEngine(engine, begin, resident)


def _located(named: TableRows, resident: ResidentTokens) -> TableRows:
    """Finds the rows of keys in the device's table. Raises `AbsentKeysError` for those that have none."""
    assert named.keys is not None, "rows of keys"
    every = np.arange(len(named.keys))
    found = resident.find(named.keys, every)
    if found is None or len(found.places) < len(every):
        raise AbsentKeysError(
            every if found is None else np.setdiff1d(every, found.places, assume_unique=True)
        )
    rows = found.rows.reshape(-1)
    return TableRows(np.where(named.rows < 0, -1, rows[named.rows]), (found.kept,))


def hosted_sets(engine: SetEngine) -> HostedEngine:
    """Hosts an engine of a ranker of sets."""

    def begin(request: Columns, _: Tell) -> "Future[Columns]":
        values = request.values
        future = engine.submit(read_input(request), values["timeout_s"], spent_s=values["spent_s"])
        return converted(future, logits_columns)

    return HostedEngine(engine, begin)
