"""Parts of the models whose one graph takes texts: their engines, one a device, and what any of them does."""

from collections.abc import Callable
from contextlib import ExitStack

from rankport.protos.types import ModelDescription, Usage
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest, Role
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.capabilities import ModelCounts
from rankport.runtime.kinds.engine_model import EngineModel
from rankport.runtime.kinds.remote_text_engine import RemoteTextEngine
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.text_engine import TextEngine, TextRows
from rankport.runtime.scheduling.runs_by_length import RowOf
from rankport.runtime.tokens import TokenRuns

TextsEngine = TextEngine | RemoteTextEngine
"""An engine of texts, in this process or another."""


def text_engines(
    bundle: Bundle, role: Role, config: EngineConfig, row_of: RowOf = "run"
) -> Replicas[TextsEngine]:
    """Loads the graph of a role on every device of `config`, here or where it says. Raises as `load_text_backend`.

    `row_of` says what the graph answers with a row for: each text, each token, or each marker.
    """
    with ExitStack() as loaded:
        engines = {}
        for gpu in config.device_ids:
            engines[gpu] = text_engine(bundle, role, config, row_of, gpu)
            loaded.callback(engines[gpu].close)
        loaded.pop_all()
    return Replicas(engines)


def text_engine(bundle: Bundle, role: Role, config: EngineConfig, row_of: RowOf, gpu: int) -> TextsEngine:
    """Loads the graph of a role on one device, as `text_engines`."""
    if config.engines_at:
        return RemoteTextEngine(bundle, config, gpu, role, row_of)
    from rankport.runtime.backends.choice import load_marked_backend, load_text_backend

    load = load_marked_backend if row_of == "marker" else load_text_backend
    return TextEngine(load(bundle, role, config, gpu=gpu), config, role=role, row_of=row_of)


class TextModel(EngineModel):
    """A loaded model of texts: what it is, whether it lives, and its end. A context manager."""

    def __init__(
        self,
        manifest: Manifest,
        engines: Replicas[TextsEngine],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the engines over; closes them, then calls `on_close`."""
        super().__init__(engines, on_close)
        self._manifest = manifest
        self._engines = engines

    def describe(self) -> ModelDescription:
        """Says what the bundle is."""
        return describe(self._manifest)

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters."""
        return ModelCounts(self._engines.counts())


def usage_of(runs: TokenRuns, tokenize_s: float, answer: TextRows) -> Usage:
    """Counts what texts cost: the first of two is computed for each, and nothing is cached."""
    firsts = 0 if runs.seconds is None else int(runs.seconds.sum())
    return Usage(
        prefix_tokens_cached=0,
        prefix_tokens_computed=firsts,
        item_tokens=len(runs.ids) - firsts,
        tokenize_s=tokenize_s,
        queue_s=answer.queue_s,
        compute_s=answer.compute_s,
    )
