"""`verify`: repeats the proof of a bundle against its checkpoint, long after the export."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoint import load_checkpoint
from rankport.exporters.judged import read_judged, require_quality
from rankport.exporters.options import StrPath
from rankport.exporters.parity import require
from rankport.exporters.proof import Proof, prove
from rankport.exporters.tolerance import Tolerance
from rankport.protos.errors import CheckpointError, ParityError
from rankport.runtime.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, and what failed."""

    bundle: Bundle
    proof: Proof
    failures: tuple[str, ...]  # empty if the bundle holds


def verify(
    bundle: StrPath,
    checkpoint: StrPath,
    *,
    judged: StrPath | None = None,
    store: StrPath | None = None,
    tolerance: Tolerance | None = None,
    on_progress: Callable[[str], None] = lambda step: None,
) -> Verdict:
    """Measures the bundle against the checkpoint it states as its source.

    Raises:
        BundleError, CheckpointError: one of them cannot be read, or the bundle was made from another checkpoint.
    """
    allowed = tolerance or Tolerance()
    requests = [] if judged is None else read_judged(Path(judged))
    opened = Bundle.open(bundle)
    on_progress("loading the checkpoint")
    source = load_checkpoint(Path(checkpoint), headless=opened.manifest.kind == "item_encoder")
    stated = opened.manifest.source.checkpoint_sha256
    if source.sha256 != stated:
        raise CheckpointError(
            f"checkpoint {str(checkpoint)!r} has sha256 {source.sha256}, the bundle was exported from {stated}: give "
            "the folder of that export, or export again"
        )
    proof = prove(
        opened,
        source,
        tolerance=allowed,
        judged=requests,
        store=store,
        on_progress=on_progress,
    )
    return Verdict(opened, proof, tuple(_failures(proof, allowed.max_ndcg_loss)))


def _failures(proof: Proof, max_ndcg_loss: float) -> list[str]:
    failures = []
    try:
        require(proof.parity)
    except ParityError as error:
        failures.append(str(error))
    if proof.quality is not None:
        try:
            require_quality(proof.quality, max_ndcg_loss)
        except ParityError as error:
            failures.append(str(error))
    return failures
