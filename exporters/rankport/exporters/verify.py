"""`verify`: repeats the proof of a bundle against its checkpoint, long after the export."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.requests import read_contents
from rankport.exporters.kinds.table import EXPORT_KINDS, kind_named
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.check_requests import RequestForm, check_requests
from rankport.exporters.options.proof_options import ProofOptions, VerifyOptions, verify_options
from rankport.exporters.options.request_files import RequestFiles, StrPath
from rankport.exporters.options.requests_file import file_sha256
from rankport.exporters.proof.limits import require_use, rounds_results, shortfalls
from rankport.exporters.proof.prove import Progress, Proof, Sources, prove
from rankport.exporters.proof.stated_graphs import other_axes, require_as_stated
from rankport.exporters.quantization.loud import stated_loud
from rankport.exporters.quantization.recipes import RECIPES, Choices, Recipe, recipe_of
from rankport.exporters.quantization.tables import LOUD_TABLE
from rankport.exporters.steps.low_bits import quantize_source
from rankport.exporters.steps.source import load_source
from rankport.protos.errors import BundleError, CheckpointError, InvalidRequest
from rankport.runtime.backends.choice import require_device
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, Quantization, Target
from rankport.runtime.config import Device
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Verdict:
    """Figures of a bundle, and what failed."""

    bundle: Bundle
    proofs: dict[Target, Proof]  # by what the graphs are made for, as far as the device runs them
    failures: tuple[str, ...]  # empty if the bundle holds

    @property
    def proof(self) -> Proof:
        """The proof of the graphs for the first target."""
        return next(iter(self.proofs.values()))


def verify(
    bundle: StrPath,
    checkpoint: StrPath,
    *,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: Any,
) -> Verdict:
    """Measures the bundle against the checkpoint it states as its source; `options` are the fields of `VerifyOptions`.

    A bundle quantized at export is measured against the low-bit model made anew, which needs the requests that its
    rounding was fitted to, and against the checkpoint in full precision. `device` runs the bundle, the source is run by
    torch on the CPU.

    Raises:
        BundleError, CheckpointError: one of them cannot be read, the manifest says otherwise than the graphs, or the
            bundle was made from another checkpoint.
        InvalidRequest: an option that there is not, or `calibration` is missing, or not the file of the export.
    """
    return run_verify(bundle, checkpoint, verify_options("verify", options), on_progress)


@quiet()
def run_verify(
    bundle: StrPath,
    checkpoint: StrPath,
    options: VerifyOptions,
    on_progress: Progress,
    kinds: Sequence[ExportKind] = EXPORT_KINDS,
    load: Callable[[], Checkpoint] | None = None,
) -> Verdict:
    """Verifies with options made. `load` gives what is no folder on disk."""
    opened = open_bundle(bundle, [kind.bundles for kind in kinds])
    require_as_stated(opened)
    kind = kind_named(opened.manifest.kind, kinds)
    requests = read_contents(options.requests, kind)
    views = _views(opened, options.device)
    stated = [view.manifest for view in views]
    require_use(options.tolerance, [rounds_results(each.precision, each.quantization) for each in stated])
    require_device(options.device)
    _require_calibration(opened.manifest.quantization, options.calibration)
    check_requests(requests, RequestForm(opened.manifest, _tokenizer(opened)), options.store)
    how = ProofOptions(
        options.tolerance,
        requests.judged,
        requests.reference,
        options.store,
        options.device,
        options.allow_unsupported_gpu,
        requests.judged_texts,
        options.batch_queries,
    )
    proofs: dict[Target, Proof] = {}
    failures = list(other_axes(opened.manifest))
    with _sources(kind, opened, checkpoint, options, on_progress, load) as sources:
        for view in views:
            proof = prove(view, sources, work_of(kind).measure, how, on_progress)
            proofs[view.manifest.targets[0]] = proof
            failures += shortfalls(
                proof.parity,
                proof.quality,
                options.tolerance,
                view.manifest,
                proof.agreement,
                proof.contradictions,
            )
    return Verdict(opened, proofs, tuple(failures))


def _sources(
    kind: ExportKind,
    bundle: Bundle,
    checkpoint: StrPath,
    options: VerifyOptions,
    on_progress: Progress,
    load: Callable[[], Checkpoint] | None,
) -> Sources:
    """Loads what the bundle was made from, and quantizes it as the export did."""
    manifest = bundle.manifest
    # What the export left out on demand is left out again.
    whole = "the folder" if load is None else "the module, tokenizer, tables and ids"
    made = manifest.source
    load = load or partial(load_source, kind, checkpoint, options.base, bool(made.ignored_code), made.task)
    on_progress("loading the checkpoint")
    source = load()
    stated = made.checkpoint_sha256
    if source.sha256 != stated:
        raise CheckpointError(
            f"checkpoint {str(checkpoint)!r} has sha256 {source.sha256}, the bundle was exported from {stated}: give "
            f"{whole} of that export, or export again"
        )
    if manifest.quantization is None or manifest.quantization.by != "export":
        return Sources(source)
    recipe = _recipe(manifest, manifest.quantization)
    files = RequestFiles(calibration=options.calibration, store=options.store)
    source, _ = quantize_source(kind, source, manifest, _tokenizer(bundle), recipe, files, on_progress)
    return Sources(source, load)


_RUNS: dict[Device, tuple[Target, ...]] = {
    "cpu": ("onnx-cpu", "onnx-cuda", "tensorrt"),
    "cuda": ("onnx-cuda",),
    "tensorrt": ("tensorrt",),
}


def _views(bundle: Bundle, device: Device) -> list[Bundle]:
    """Splits the bundle by target, as far as the device runs them."""
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
    recipe = recipe_of(quantization.format, manifest.graphs[0].target)
    # Bundles of earlier versions leave out no loud columns and keep fewer layers.
    kept = frozenset(quantization.kept)
    return replace(
        recipe,
        loud=max((stated_loud(part.activations) for part in quantization.parts), default=0),
        repeats=Choices(kept, LOUD_TABLE in kept),
    )


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
