"""The proof of a ranker bundle: each mode and item form on sample requests, and judged requests by the runtime."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from functools import partial

import numpy as np
import torch
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.decoders.module import DecoderModule
from rankport.exporters.kinds.decoders.windows import read_windows
from rankport.exporters.kinds.labels.label_head import readout_of
from rankport.exporters.kinds.labels.pooled_head import pooled_head
from rankport.exporters.kinds.labels.score_checks import check_labels, check_scores
from rankport.exporters.kinds.ranker.owners_pairs import OwnersPairs
from rankport.exporters.kinds.ranker.pooled import pooled_reference
from rankport.exporters.kinds.ranker.proof.batches import batches_of_modes, batches_of_sweep, sample_queries
from rankport.exporters.kinds.ranker.proof.evidence import ranker_evidence
from rankport.exporters.kinds.ranker.proof.judged import JudgedRun, ndcg_by_request, quality_of, run_judged
from rankport.exporters.kinds.ranker.proof.modes import SampleRequest, answers_by_mode, compare_modes
from rankport.exporters.kinds.ranker.proof.owner_scores import OwnerRun, run_reference
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.exporters.kinds.ranker.proof.samples import (
    are_sampled,
    sample_requests,
    window_to_cross,
)
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.agreement import AgreementLimits
from rankport.exporters.proof.compare import Logits, RankValues, compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.source_words import compared_with
from rankport.protos.errors import ParityError
from rankport.protos.scores import rank_values
from rankport.protos.wording import counted
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.bundle.manifest import BatchIndependence, Labels, Manifest, ModeParity, Score
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.opening import open_store


def measure_ranker(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a ranker; a `proof.prove.Measure`."""
    labels = _labels(manifest)
    _check_labels(manifest, source)
    _check_prompt(manifest, source)
    reference = _reference(manifest, source)
    scale = None if manifest.embedding is None else _embedding_norm(source.model)
    window, unseen = window_to_cross(_windows(manifest, source), manifest.limits)
    requests = sample_requests(
        source.vocab_size, source.hidden_size, manifest.limits, scale, ends=_ends(source), window=window
    )
    on_progress("reference in torch")
    expected = _sampled(reference, requests)
    as_read = [request.as_read(labels.pad_token) for request in requests]
    with closing(load_prefix_backend(place.bundle, place.config)) as backend:
        answers = answers_by_mode(backend, as_read, lambda mode: on_progress(f"parity: {mode}"))
    runs, owner = _through_runtime(place, manifest, options, on_progress)
    order = _rank_values(manifest)
    modes = compare_modes(expected, requests, answers, order)
    check_scores(labels, _score(manifest), [logits for part in answers.values() for logits in part])
    if options.batch_queries is None:
        batches = batches_of_modes(requests, answers, order)
    else:
        many = sample_queries(options.batch_queries, manifest, source.vocab_size, runs)
        batches = _swept(place, many, order, on_progress)
    judged = _judged(reference, runs)
    if runs:
        modes.append(compare("judged", judged, [run.logits for run in runs], order))
    served = [logits for mode, part in answers.items() if mode.startswith("prefix_reuse/") for logits in part]
    return Measured(
        modes,
        _noise(reference, requests, expected, manifest),
        options.tolerance,
        quality_of(runs, judged, order) if runs else None,
        partial(_drift_from, manifest, requests, served, runs),
        batches=batches,
        agreement=None if owner is None else owner.agreement,
        reference=compared_with(None, source, manifest.quantization, unseen),
        evidence=ranker_evidence(expected, requests, answers, (runs, judged), owner, order),
    )


def _swept(
    place: Runnable, requests: Sequence[SampleRequest], order: RankValues, on_progress: Progress
) -> BatchIndependence:
    with closing(load_prefix_backend(place.bundle, place.config)) as backend:
        return batches_of_sweep(
            backend,
            requests,
            place.config,
            order,
            lambda size: on_progress(f"{counted(size, 'item')} in a pass"),
        )


def _drift_from(
    manifest: Manifest,
    requests: Sequence[SampleRequest],
    served: Sequence[Logits],
    runs: Sequence[JudgedRun],
    original: Checkpoint,
) -> Drift:
    reference, order = _reference(manifest, original), _rank_values(manifest)
    sampled = _sampled(reference, requests)
    modes = [compare("random tokens", sampled, served, order)]
    if not runs:
        return Drift(modes, None, Series.of("logits", sampled, served))
    judged, logits = _judged(reference, runs), [run.logits for run in runs]
    modes.append(compare("judged", judged, logits, order))
    values = Series.of("logits", [*sampled, *judged], [*served, *logits])
    return Drift(modes, quality_of(runs, judged, order), values, ndcg_by_request(runs, judged, order))


def _noise(
    reference: RankerReference,
    requests: Sequence[SampleRequest],
    still: Sequence[Logits],
    manifest: Manifest,
) -> ModeParity | None:
    """Measures how far the source moves from itself where its results are rounded."""
    moved = moved_as_rounded(reference.checkpoint.model, manifest)
    if moved is None:
        return None
    with moved:
        return compare("noise", still, _sampled(reference, requests), _rank_values(manifest))


def _reference(manifest: Manifest, checkpoint: Checkpoint) -> RankerReference:
    labels = _labels(manifest)
    pooled = pooled_reference(checkpoint, manifest.head, len(labels.names))
    return RankerReference(checkpoint, readout_of(labels), pooled)


def _windows(manifest: Manifest, source: Checkpoint) -> Collection[int]:
    """Lists the windows of the source's layers where samples are shorter than the limits."""
    if are_sampled(manifest.limits):
        return ()
    module = DecoderModule(source.model, readout_of(_labels(manifest)), embeddings=False, head=nn.Identity())
    return read_windows(module).by_layer.values()


def _check_labels(manifest: Manifest, source: Checkpoint) -> None:
    """Raises ParityError for labels, or a head, that the checkpoint states otherwise."""
    if source.head != "none":
        check_labels(_labels(manifest), source)
        return
    names, head = pooled_head(source, named=False)
    if _labels(manifest).names != list(names) or manifest.head != head:
        raise ParityError(
            f"labels, head: the bundle has {_labels(manifest).names} and {manifest.head}, the checkpoint "
            f"{list(names)} and {head}"
        )


def _check_prompt(manifest: Manifest, source: Checkpoint) -> None:
    """Raises ParityError for a prompt that makes other tokens than the folder's owner, if none was named."""
    pairs = None if "prompt" in manifest.source.overrides else OwnersPairs.of(source)
    tokenizer = tokenizer_of(source.tokenizer_file)
    if pairs is None or tokenizer is None:
        return
    if difference := pairs.difference(manifest.prompt, tokenizer):
        raise ParityError(f"prompt: the checkpoint's {pairs.name} {difference}")


def _labels(manifest: Manifest) -> Labels:
    assert manifest.labels is not None
    return manifest.labels


def _rank_values(manifest: Manifest) -> RankValues:
    return partial(rank_values, positive=_labels(manifest).positive, transform=_score(manifest).transform)


def _score(manifest: Manifest) -> Score:
    assert manifest.score is not None
    return manifest.score


def _ends(source: Checkpoint) -> tuple[int, ...]:
    """Lists the tokens that end or pad a sequence, by the config."""
    config = source.model.config.get_text_config()  # type: ignore[union-attr, operator]
    stated = [getattr(config, name, None) for name in ("pad_token_id", "eos_token_id")]
    tokens = [token for value in stated for token in (value if isinstance(value, list) else [value])]
    return tuple(
        dict.fromkeys(token for token in tokens if token is not None and 0 <= token < source.vocab_size)
    )


def _sampled(reference: RankerReference, requests: Sequence[SampleRequest]) -> list[Logits]:
    return [reference.logits(request.prefix, request.items) for request in requests]


def _judged(reference: RankerReference, runs: Sequence[JudgedRun]) -> list[Logits]:
    return [reference.logits(run.prefix, run.items) for run in runs]


def _through_runtime(
    place: Runnable, manifest: Manifest, options: ProofOptions, on_progress: Progress
) -> tuple[list[JudgedRun], OwnerRun | None]:
    """Answers the judged requests and the owner's by the runtime that serves."""
    reference = options.reference
    if not options.judged and reference is None:
        return [], None
    judged_of, scored_of = len(options.judged), 0 if reference is None else len(reference.requests)
    with ExitStack() as opened:
        tokens = None
        if options.store is not None:
            tokens = opened.enter_context(closing(open_store(options.store, read_only=True)))
        ranker = opened.enter_context(Ranker.load(place.bundle, store=tokens, config=place.config))
        judged = run_judged(
            ranker, options.judged, lambda done: on_progress(f"judged requests {done}/{judged_of}")
        )
        if reference is None:
            return judged, None
        # The manifest of what is run may say fp32: a CPU emulates half precision.
        limits = AgreementLimits.of(options.tolerance, manifest)
        owner = run_reference(
            ranker,
            reference,
            limits,
            _labels(manifest).positive,
            lambda done: on_progress(f"owner's requests {done}/{scored_of}"),
        )
        return judged, owner


def _embedding_norm(model: nn.Module) -> float:
    """Averages the norms of the input embeddings: the scale at which injected vectors matter as much as tokens do."""
    table = model.get_input_embeddings()  # type: ignore[operator]
    rows = torch.arange(0, table.num_embeddings, max(1, table.num_embeddings // 4096))
    with torch.no_grad():
        return float(np.linalg.norm(table(rows).numpy(), axis=1).mean())
