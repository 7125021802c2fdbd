"""`export`: checkpoint in, proven bundle out, or nothing.

Owns the order of the steps. Each step lives in a module of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.requests import read_contents
from rankport.exporters.kinds.table import kind_named, options_of
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.check_requests import RequestContents, check_requests
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.proof.limits import shortfalls
from rankport.exporters.proof.prove import Progress, Proof, Sources, prove
from rankport.exporters.steps.stage import stage
from rankport.protos.errors import ParityError
from rankport.runtime.backends.tensorrt.build import build_plans, require_target
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, Target

OnProofs = Callable[[Manifest, Mapping[Target, Proof], Sequence[str]], None]
"""Takes a bundle's manifest, the proofs of its targets, and what they miss."""


def export(
    checkpoint: StrPath,
    out: StrPath,
    *,
    kind: str | None = None,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: object,
) -> Bundle:
    """Exports a Hugging Face checkpoint folder to a bundle directory and proves it equal to its source.

    `options` are the fields of the kind's options: `RankerOptions`, `ItemEncoderOptions`. `kind` may be left out where
    exactly one kind claims the checkpoint, or does the task that optimum infers; `on_progress` is told which and why.
    On any error nothing is left at `out`.

    Raises:
        InvalidRequest: an option is wrong.
        CheckpointError: the checkpoint cannot be exported exactly; the message says why.
        ParityError: the bundle differs from its source beyond the tolerance.
        BackendError, BundleError: plans that `target` names cannot be built: see `build_plans`.
    """
    base = options.get("base")
    if kind is None:
        claimed = claimed_kind(checkpoint, None if base is None else str(base))
        on_progress(str(claimed))
        chosen = claimed.kind
    else:
        chosen = kind_named(kind)
    return run_export(checkpoint, out, chosen, options_of(chosen, options), on_progress)


@quiet()
def run_export(
    checkpoint: StrPath,
    out: StrPath,
    kind: ExportKind,
    options: ExportOptions,
    on_progress: Progress,
    on_proofs: OnProofs = lambda manifest, proofs, failures: None,
    load: Callable[[], Checkpoint] | None = None,
) -> Bundle:
    """Exports with options made: stage, prove, build plans, publish. `on_proofs` is told of a miss too.

    `load` gives what is no folder on disk.
    """
    requests = _checked_requests(checkpoint, kind, options)
    for build_target in options.plans:
        require_target(build_target)
    with BundleStaging(out, overwrite=options.overwrite, kinds=(kind.bundles,)) as staging:
        draft, sources = stage(staging, kind, checkpoint, options, requests.judged, on_progress, load)
        staged = staging.finalize(draft)
        with sources:  # no longer: a builder takes memory of its own
            proofs, failures = prove_targets(staged, sources, kind, options, requests, on_progress)
        on_proofs(staged.manifest, proofs, failures)
        if failures:
            raise ParityError(failures[0])
        bundle = staging.finalize(draft.model_copy(update=_measured(proofs)))
        for build_target in options.plans:
            build_plans(bundle, build_target, on_progress=on_progress)
        on_progress("publishing the bundle")
        return staging.publish()


def prove_targets(
    bundle: Bundle,
    sources: Sources,
    kind: ExportKind,
    options: ExportOptions,
    requests: RequestContents,
    on_progress: Progress,
) -> tuple[dict[Target, Proof], list[str]]:
    """Proves the graphs of each target on the CPU, up to the first that misses its tolerance; says what it misses."""
    how = ProofOptions(
        options.tolerance,
        requests.judged,
        requests.reference,
        options.requests.store,
        judged_texts=requests.judged_texts,
    )
    proofs: dict[Target, Proof] = {}
    for target in options.targets:
        view = bundle.for_target(target)
        progress = _prefixed(on_progress, target, options.targets)
        proof = proofs[target] = prove(view, sources, work_of(kind).measure, how, progress)
        failures = list(
            shortfalls(
                proof.parity,
                proof.quality,
                options.tolerance,
                view.manifest,
                proof.agreement,
                proof.contradictions,
            )
        )
        if failures:
            return proofs, failures
    return proofs, []


def _checked_requests(checkpoint: StrPath, kind: ExportKind, options: ExportOptions) -> RequestContents:
    """Reads the files of requests. A bad line in any of them should not cost the load of a model."""
    contents = read_contents(options.requests, kind)
    form_of = work_of(kind).request_form if contents else None
    if form_of is not None:
        check_requests(contents, form_of(Path(checkpoint), options), options.requests.store)
    return contents


def _measured(proofs: dict[Target, Proof]) -> dict[str, object]:
    """Fields of the manifest. The first target's proof stands for the bundle."""
    (_, first), *others = proofs.items()
    return {
        "parity": first.parity,
        "quality": first.quality,
        "drift": first.drift,
        "agreement": None if first.agreement is None else first.agreement.figures,
        "target_parity": {target: proof.parity for target, proof in others} or None,
    }


def _prefixed(on_progress: Progress, target: Target, targets: tuple[Target, ...]) -> Progress:
    return on_progress if len(targets) == 1 else lambda step: on_progress(f"{target}: {step}")
