"""The proof that export and verify share: a bundle, opened as it will be served, against its checkpoint.

Owns the order of a proof and how long each model lives. What is measured, the bundle's kind hands in.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.agreement import OwnerAgreement
from rankport.exporters.proof.compare import worst_of
from rankport.exporters.proof.emulation import Runnable, runnable
from rankport.exporters.proof.evidence import NO_EVIDENCE, Evidence, Series
from rankport.exporters.proof.limits import allowed_ndcg_loss, summarize
from rankport.exporters.proof.same_tokens import tokenizer_differences
from rankport.exporters.proof.source_words import source_in_words
from rankport.exporters.torch_memory import release
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import (
    BatchIndependence,
    Manifest,
    ModeParity,
    OrderDependence,
    Parity,
    Quality,
)
from rankport.runtime.config import EngineConfig

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """Figures of a bundle."""

    parity: Parity
    quality: Quality | None
    drift: list[ModeParity] | None = None  # of a bundle quantized at export, from the full-precision source
    agreement: OwnerAgreement | None = None  # with the owner's own scores
    evidence: Evidence = NO_EVIDENCE
    contradictions: tuple[str, ...] = ()  # what the bundle states and its source does not


@dataclass(frozen=True, slots=True)
class Drift:
    """Distance of a bundle's answers from another source than the one whose maths it has."""

    modes: list[ModeParity]
    quality: Quality | None
    values: Series | None = None  # of the other source and the bundle
    ndcg: Series | None = None  # of each judged request, of both


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of a bundle by its kind, against its exact source. Holds figures and arrays, never a model."""

    modes: list[ModeParity]
    noise: ModeParity | None  # the source against itself, where the bundle rounds: see `noise`
    tolerance: Tolerance  # what is allowed, the form of the output included
    quality: Quality | None  # on judged requests
    drift_from: Callable[[Checkpoint], Drift]  # compares what the bundle answered with another source
    agreement: OwnerAgreement | None = None  # with the owner's own scores, where those are given
    reference: str | None = None  # what the exact source is run by, where that is not transformers' class
    batches: BatchIndependence | None = None
    order: OrderDependence | None = None
    evidence: Evidence = NO_EVIDENCE


Measure = Callable[[Manifest, Runnable, Checkpoint, ProofOptions, Progress], Measured]
"""Measures a bundle of one kind, whose manifest is the first argument, against the checkpoint of the very same maths.

The manifest of what is run may differ, see `emulation`. Nothing of the checkpoint is kept.
"""


class Sources:
    """The models that a bundle is measured against: their only holder, of one at a time.

    with Sources(exact, load_original) as sources:
        ...     # measure against sources.exact, of which nothing else keeps a reference
    # no model is in memory any more
    """

    def __init__(self, exact: Checkpoint, load_original: Callable[[], Checkpoint] | None = None) -> None:
        """Takes the `exact` source, of the very maths of the bundle, low-bit layers included.

        `load_original` loads the full-precision source of a bundle quantized at export.
        """
        self._held: Checkpoint | None = exact
        self._load_original = load_original

    @property
    def exact(self) -> Checkpoint:
        """The exact source, until `swap`."""
        assert self._held is not None
        return self._held

    @property
    def has_original(self) -> bool:
        """True where there is another source than the exact one."""
        return self._load_original is not None

    def swap(self) -> Checkpoint:
        """Lets go of the exact source, then loads the original."""
        assert self._load_original is not None
        self.close()
        self._held = self._load_original()
        return self._held

    def close(self) -> None:
        """Lets go of the model."""
        self._held = None
        release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prove(
    bundle: Bundle, sources: Sources, measure: Measure, options: ProofOptions, on_progress: Progress
) -> Proof:
    """Measures every mode on a device, and ranking quality where judged requests are given. Judges nothing."""
    manifest = bundle.manifest
    on_progress("tokenizer")
    contradictions = [
        *_other_vocabulary(manifest, sources.exact),
        *tokenizer_differences(bundle, sources.exact),
    ]
    config = EngineConfig(device=options.device, allow_unsupported_gpu=options.allow_unsupported_gpu)
    with runnable(bundle, config) as place:
        measured = measure(manifest, place, sources.exact, options, on_progress)
        # A GPU runs the form that its ONNX Runtime takes.
        for version in manifest.onnxruntimes if options.device == "cpu" else ():
            on_progress(f"graphs for onnxruntime {version} and later")
            form = replace(place, bundle=place.bundle.for_onnxruntime(version))
            other = measure(manifest, form, sources.exact, options, on_progress)
            measured = farther(measured, other)
        parity = summarize(
            place.backend,
            measured.tolerance,
            measured.modes,
            manifest.quantization,
            measured.noise,
            manifest.precision,
            measured.reference or source_in_words(sources.exact, manifest.quantization),
            measured.batches,
            measured.order,
        )
    judged = partial(_with_limit, allowed_ndcg_loss(options.tolerance, manifest))
    proof = Proof(
        parity,
        judged(measured.quality),
        agreement=measured.agreement,
        evidence=measured.evidence,
        contradictions=tuple(contradictions),
    )
    if not sources.has_original:
        return proof
    on_progress("drift from full precision")
    drift = measured.drift_from(sources.swap())
    evidence = replace(measured.evidence, drift=drift.values, ndcg=drift.ndcg)
    return replace(proof, quality=judged(drift.quality), drift=drift.modes, evidence=evidence)


def farther(measured: Measured, other: Measured) -> Measured:
    """Takes, of two forms of graphs, each figure of the one that is farther from the source in it."""
    modes = [
        worst_of(pair).model_copy(update={"requests": pair[0].requests, "items": pair[0].items})
        for pair in zip(measured.modes, other.modes, strict=True)
    ]
    batches = [form.batches for form in (measured, other) if form.batches is not None]
    qualities = [form.quality for form in (measured, other) if form.quality is not None]
    return replace(
        measured,
        modes=modes,
        batches=max(batches, key=lambda batches: batches.changed, default=None),
        quality=max(qualities, key=_ndcg_moves, default=None),
    )


def _ndcg_moves(quality: Quality) -> float:
    return max(
        abs(quality.ndcg_at_1_source - quality.ndcg_at_1_bundle),
        abs(quality.ndcg_at_10_source - quality.ndcg_at_10_bundle),
    )


def _other_vocabulary(manifest: Manifest, source: Checkpoint) -> list[str]:
    """Says where a bundle states a vocabulary that is not its source's: ids are drawn and refused by what it states."""
    stated, own = manifest.shape.vocab_size, source.vocab_size
    return [] if stated == own else [f"shape.vocab_size: is {stated}, the checkpoint has {own} rows"]


def _with_limit(most: float, quality: Quality | None) -> Quality | None:
    return None if quality is None else quality.model_copy(update={"max_ndcg_loss": most})
