"""The proof of two towers: representations, scores of given ones, features and NaN, order, and the whole way."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.texts.embeddings import compare_embeddings, output_tolerance
from rankport.exporters.kinds.texts.rows import answers_by_mode
from rankport.exporters.kinds.texts.samples import Runs
from rankport.exporters.kinds.two_tower.facts import facts_of, towers_of
from rankport.exporters.kinds.two_tower.proof.batches import rankings_by_size, rows_by_size
from rankport.exporters.kinds.two_tower.proof.owners_mode import compare_with_owners
from rankport.exporters.kinds.two_tower.proof.reference import Rows, TowersReference
from rankport.exporters.kinds.two_tower.proof.samples import TowerSamples
from rankport.exporters.kinds.two_tower.proof.stated import require_stated
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.compare import RankValues, compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.protos.scores import rank_values
from rankport.protos.types import Side
from rankport.protos.wording import counted
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.manifest import BatchIndependence, Manifest, ModeParity
from rankport.runtime.kinds.two_tower.rules import role_of
from rankport.runtime.kinds.two_tower.scorers import GraphScorer
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.prompt.encoder import PromptEncoder

_SIDES: tuple[Side, ...] = ("query", "item")
Lists = Sequence[Rows]  # [queries] of logits [items, outputs]


@dataclass(frozen=True, slots=True)
class TowerAnswers:
    """Answers of a bundle, by mode."""

    rows: dict[str, NDArray[np.floating]]  # mode -> representations [texts, vectors, width]
    logits: dict[str, Lists]  # mode -> logits of each query

    def of_side(self, side: Side) -> NDArray[np.floating]:
        """Gives the representations of a side, made one at a time."""
        return self.rows[f"{side}_alone"]


def measure_two_tower(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures two towers; a `proof.prove.Measure`. Raises ParityError for what the manifest says and they do not."""
    require_stated(manifest, facts_of(source))
    reference = _reference(manifest, source)
    samples = TowerSamples.of(manifest, PromptEncoder.from_bundle(place.bundle))
    on_progress("reference in torch")
    rows = _expected_rows(reference, samples)
    on_progress("parity: representations, scores, features, order, the whole way")
    answers = _answers(place, samples, rows)
    modes = _compared(manifest, reference, samples, rows, answers)
    owners = compare_with_owners(manifest, place, source)
    # Of a model quantized here, what its owner ran is the original: that is drift.
    drift = [] if manifest.quantization is None else owners.modes
    noise = None
    moved = moved_as_rounded(source.model, manifest)
    if moved is not None:
        with moved:
            noise = compare_embeddings("noise", rows["item"], reference.represent(samples.items, "item"))
    assert manifest.embedding is not None
    tolerance = output_tolerance(options.tolerance, manifest.embedding.dtype)
    expected = [rows[side] for side in _SIDES]
    evidence = Evidence(
        "representation value",
        Series.of("representation values", expected, [answers.of_side(side) for side in _SIDES]),
    )
    return Measured(
        modes if drift else [*modes, *owners.modes],
        noise,
        options.tolerance if moved is not None else tolerance,
        None,
        partial(_drift_from, manifest, samples, answers, drift),
        batches=_batches(manifest, place, reference, samples, answers, options, on_progress),
        reference=f"{source.architecture}'s own represent and score in torch, one text at a time{owners.words}",
        evidence=evidence,
    )


def _reference(manifest: Manifest, source: Checkpoint) -> TowersReference:
    facts = facts_of(source)
    return TowersReference(towers_of(source), facts.vectors(manifest.limits), facts.late)


def _expected_rows(reference: TowersReference, samples: TowerSamples) -> dict[Side, Rows]:
    return {
        "query": reference.represent(samples.queries, "query"),
        "item": reference.represent(samples.items, "item"),
    }


def _answers(place: Runnable, samples: TowerSamples, rows: dict[Side, Rows]) -> TowerAnswers:
    runs: dict[Side, Runs] = {"query": samples.queries, "item": samples.items}
    represented: dict[str, NDArray[np.floating]] = {}
    for side in _SIDES:
        role = role_of(place.bundle.manifest, side)
        with closing(load_text_backend(place.bundle, role, place.config)) as backend:
            made = answers_by_mode(backend, runs[side])
        represented[f"{side}_alone"] = made["one_item"]
        represented[f"{side}_batch"] = made["batch"]
    with closing(GraphScorer(place.bundle, place.config)) as scorer:
        logits = _scored(scorer, samples, rows)
    logits["end_to_end"] = _whole_way(place, samples)
    return TowerAnswers(represented, logits)


def _scored(scorer: GraphScorer, samples: TowerSamples, rows: dict[Side, Rows]) -> dict[str, Lists]:
    """Scores the source's own representations: as they are, with NaN features, and in another order."""
    items, queries = rows["item"], rows["query"]
    order = np.random.default_rng(2).permutation(len(items))
    back = np.argsort(order)

    def lists(features: Sequence[Rows | None], places: NDArray[np.int64]) -> Lists:
        return [
            scorer.logits(query, items[places], None if own is None else own[places])
            for query, own in zip(queries, features, strict=True)
        ]

    as_given = np.arange(len(items))
    scored = {"score": lists(samples.features, as_given)}
    if samples.holes[0] is not None:
        scored["features_nan"] = lists(samples.holes, as_given)
    scored["order"] = [logits[back] for logits in lists(samples.features, order)]
    return scored


def _whole_way(place: Runnable, samples: TowerSamples) -> Lists:
    """Scores token ids by the runtime itself."""
    bodies = [body.tolist() for body in samples.bodies]
    with Towers.load(place.bundle, config=place.config) as towers:
        return [
            towers.score(query.tolist(), bodies, features=features).logits
            for query, features in zip(samples.queries, samples.features, strict=True)
        ]


def _compared(
    manifest: Manifest,
    reference: TowersReference,
    samples: TowerSamples,
    rows: dict[Side, Rows],
    answers: TowerAnswers,
) -> list[ModeParity]:
    expected = _expected_logits(manifest, reference, samples, rows, answers)
    modes = [
        compare_embeddings(mode, rows["query" if mode.startswith("query") else "item"], made)
        for mode, made in answers.rows.items()
    ]
    values = _rank_values(manifest)
    return modes + [compare(mode, expected[mode], lists, values) for mode, lists in answers.logits.items()]


def _expected_logits(
    manifest: Manifest,
    reference: TowersReference,
    samples: TowerSamples,
    rows: dict[Side, Rows],
    answers: TowerAnswers,
) -> dict[str, Lists]:
    """Has the source score its own representations; of a float16 output, the whole way is from those as kept."""
    kept = rows
    assert manifest.embedding is not None
    if manifest.embedding.dtype == "float16":
        kept = {side: answers.of_side(side).astype(np.float32) for side in _SIDES}

    def lists(features: Sequence[Rows | None], of: dict[Side, Rows]) -> Lists:
        return [
            reference.logits(query, of["item"], own) for query, own in zip(of["query"], features, strict=True)
        ]

    plain = lists(samples.features, rows)
    expected = {"score": plain, "order": plain, "end_to_end": lists(samples.features, kept)}
    if samples.holes[0] is not None:
        expected["features_nan"] = lists(samples.holes, rows)
    return expected


def _rank_values(manifest: Manifest) -> RankValues:
    assert manifest.labels is not None
    assert manifest.score is not None
    return partial(rank_values, positive=manifest.labels.positive, transform=manifest.score.transform)


def _batches(
    manifest: Manifest,
    place: Runnable,
    reference: TowersReference,
    samples: TowerSamples,
    answers: TowerAnswers,
    options: ProofOptions,
    on_progress: Progress,
) -> BatchIndependence:
    """Compares the rankings by items that were represented alone and together, or over all sizes where it is asked."""
    values = _rank_values(manifest)
    alone, together = answers.of_side("item"), answers.rows["item_batch"]
    if options.batch_queries is None:
        return rankings_by_size({1: alone, len(alone) - 1: together}, reference, samples, values)
    many = TowerSamples.of(manifest, PromptEncoder.from_bundle(place.bundle), options.batch_queries)
    by_size = rows_by_size(place, many, lambda size: on_progress(f"{counted(size, 'item')} in a pass"))
    return rankings_by_size(by_size, reference, many, values)


def _drift_from(
    manifest: Manifest,
    samples: TowerSamples,
    answers: TowerAnswers,
    owners: list[ModeParity],
    original: Checkpoint,
) -> Drift:
    reference = _reference(manifest, original)
    rows = _expected_rows(reference, samples)
    series = Series.of(
        "representation values",
        [rows[side] for side in _SIDES],
        [answers.of_side(side) for side in _SIDES],
    )
    modes = _compared(manifest, reference, samples, rows, answers)
    return Drift([*modes, *owners], None, series)
