"""`verify`: repeats the proof of a bundle against its checkpoint, long after the export."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.ranker.calibrate import file_sha256, quantize_checkpoint
from rankport.exporters.kinds.ranker.judged import read_judged, require_quality
from rankport.exporters.kinds.ranker.modes import require
from rankport.exporters.options.options import StrPath
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.prove import Proof, Sources, prove
from rankport.exporters.quantization.recipes import RECIPES, Recipe, recipe_of
from rankport.protos.errors import BundleError, CheckpointError, InvalidRequest, ParityError
from rankport.runtime.backends.choice import require_device
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, Quantization, Target
from rankport.runtime.config import Device
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, and what failed."""

    bundle: Bundle
    proofs: dict[Target, Proof]  # by what the graphs are made for, as far as the device runs them
    failures: tuple[str, ...]  # empty if the bundle holds

    @property
    def proof(self) -> Proof:
        """Of the graphs for the first target."""
        return next(iter(self.proofs.values()))


def verify(
    bundle: StrPath,
    checkpoint: StrPath,
    *,
    base: StrPath | None = None,
    judged: StrPath | None = None,
    store: StrPath | None = None,
    calibration: StrPath | None = None,
    tolerance: Tolerance | None = None,
    device: Device = "cpu",
    on_progress: Callable[[str], None] = lambda step: None,
) -> Verdict:
    """Measures the bundle against the checkpoint it states as its source; `base` is the folder of an adapter's base.

    A bundle quantized at export is measured against the low-bit model made anew, which needs the requests that its
    rounding was fitted to, and against the checkpoint in full precision. `device` runs the bundle, the source is run by
    torch on the CPU.

    Raises:
        BundleError, CheckpointError: one of them cannot be read, or the bundle was made from another checkpoint.
        InvalidRequest: `calibration` is missing, or not the file of the export.
    """
    allowed = tolerance or Tolerance()
    requests = [] if judged is None else read_judged(Path(judged))
    opened = open_bundle(bundle)
    views = _views(opened, device)
    require_device(device)
    quantization = opened.manifest.quantization
    _require_calibration(quantization, calibration)

    def load() -> Checkpoint:
        return load_checkpoint(
            Path(checkpoint),
            headless=opened.manifest.kind == "item-encoder",
            base=None if base is None else Path(base),
        )

    on_progress("loading the checkpoint")
    source = load()
    stated = opened.manifest.source.checkpoint_sha256
    if source.sha256 != stated:
        raise CheckpointError(
            f"checkpoint {str(checkpoint)!r} has sha256 {source.sha256}, the bundle was exported from {stated}: give "
            "the folder of that export, or export again"
        )
    by_export = quantization is not None and quantization.by == "export"
    if quantization is not None and by_export:
        source, _ = quantize_checkpoint(
            source,
            opened.manifest,
            _tokenizer(opened),
            _recipe(opened.manifest, quantization),
            calibration,
            store,
            on_progress,
        )
    sources = Sources(source, load if by_export else None)
    del source  # held by `sources` alone, which lets go of it in time
    proofs: dict[Target, Proof] = {}
    failures: list[str] = []
    for view in views:
        target = view.manifest.targets[0]
        proofs[target] = prove(
            view,
            sources,
            tolerance=allowed,
            judged=requests,
            store=store,
            on_progress=on_progress,
            device=device,
        )
        failures += _failures(proofs[target], allowed, view.manifest)
    return Verdict(opened, proofs, tuple(failures))


_RUNS: dict[Device, tuple[Target, ...]] = {
    "cpu": ("onnx-cpu", "onnx-cuda", "tensorrt"),
    "cuda": ("onnx-cuda",),
    "tensorrt": ("tensorrt",),
}


def _views(bundle: Bundle, device: Device) -> list[Bundle]:
    """The bundle by target, as far as the device runs them."""
    targets = bundle.manifest.targets
    views = [bundle.for_target(target) for target in targets if target in _RUNS[device]]
    if not views:
        raise InvalidRequest(
            f"bundle {bundle.manifest.name!r} has graphs for {', '.join(targets)}, which --device {device} does not run"
        )
    return views


def _recipe(manifest: Manifest, quantization: Quantization) -> Recipe:
    if quantization.format not in RECIPES:
        raise BundleError(
            f"the bundle was quantized by the recipe {quantization.format!r}, of which this rankport has none: "
            f"{', '.join(RECIPES)}"
        )
    return recipe_of(quantization.format, manifest.graphs[0].target)


def _require_calibration(quantization: Quantization | None, given: StrPath | None) -> None:
    used = None if quantization is None else quantization.calibration
    if used is None:
        if given is not None:
            raise InvalidRequest("--calibration: the bundle was exported without one")
        return
    if given is None:
        raise InvalidRequest(
            f"the bundle's rounding was fitted to a file of requests: give it by --calibration (sha256 {used.sha256})"
        )
    actual = file_sha256(Path(given))
    if actual != used.sha256:
        raise InvalidRequest(
            f"--calibration {given} has sha256 {actual}, the export used {used.sha256}: give that file"
        )


def _tokenizer(bundle: Bundle) -> Tokenizer | None:
    name = bundle.manifest.tokenizer
    return None if name is None else Tokenizer.from_file(bundle.file(name))


def _failures(proof: Proof, tolerance: Tolerance, manifest: Manifest) -> list[str]:
    failures = []
    try:
        require(proof.parity)
    except ParityError as error:
        failures.append(str(error))
    if proof.quality is not None:
        try:
            require_quality(proof.quality, tolerance, manifest)
        except ParityError as error:
            failures.append(str(error))
    return failures
