"""The engines of a model whose one graph takes texts: one a device."""

from contextlib import ExitStack

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.scheduling.runs_by_length import RowOf


def text_engines(
    bundle: Bundle, role: Role, config: EngineConfig, row_of: RowOf = "run"
) -> Replicas[TextEngine]:
    """Loads the graph of a role on every device of `config`. Raises as `load_text_backend`.

    `row_of` says what the graph answers with a row for: each text, or each token.
    """
    from rankport.runtime.backends.choice import load_text_backend

    with ExitStack() as loaded:
        engines = {}
        for gpu in config.device_ids:
            backend = load_text_backend(bundle, role, config, gpu=gpu)
            engines[gpu] = TextEngine(backend, config, role=role, row_of=row_of)
            loaded.callback(engines[gpu].close)
        loaded.pop_all()
    return Replicas(engines)
