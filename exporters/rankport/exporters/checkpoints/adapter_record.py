"""A manifest's record of an adapter that was merged at export."""

from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.runtime.bundle.manifest import Adapter


def adapter_record(source: Checkpoint) -> Adapter | None:
    """Records the adapter that a checkpoint is; None if it is whole by itself."""
    if source.adapter is None:
        return None
    facts = source.adapter.facts
    return Adapter(
        type=facts.peft_type,
        rank=facts.rank,
        alpha=facts.alpha,
        target_modules=list(facts.target_modules),
        modules_to_save=list(facts.modules_to_save),
        base=facts.base and _without_path(facts.base),
        base_sha256=source.adapter.base_sha256,
    )


def _without_path(base: str) -> str:
    """Names a base: a hub's as it is, a folder without its path, which would put this machine into a release."""
    return Path(base).name if Path(base).is_absolute() else base
