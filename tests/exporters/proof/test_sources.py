"""The sources of a proof: one model at a time, and none after."""

import weakref
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.proof.prove import Sources
from support import checkpoints
from support.sharing.traces import KeptTraces


def test_the_exact_source_is_gone_before_the_original_is_loaded(tmp_path: Path, traces: KeptTraces) -> None:
    folder = checkpoints.causal_lm(tmp_path, "qwen2")
    exact = load_checkpoint(folder)
    model = weakref.ref(exact.model)
    alive_at_load: list[bool] = []

    def load() -> Checkpoint:
        alive_at_load.append(model() is not None)
        return load_checkpoint(folder)

    with traces.anew(), Sources(exact, load) as sources:
        del exact
        assert sources.has_original
        assert model() is not None
        original = weakref.ref(sources.swap().model)
        assert original() is not None
    assert alive_at_load == [False]
    assert original() is None
