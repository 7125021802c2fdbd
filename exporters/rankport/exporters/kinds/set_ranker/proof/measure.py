"""The proof of a ranker of sets: every way of asking against one pass of the source in torch."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.set_ranker.facts import SetFacts, facts_of, keys_by_table, sets_of
from rankport.exporters.kinds.set_ranker.proof.modes import modes_of
from rankport.exporters.kinds.set_ranker.proof.reference import SetReference
from rankport.exporters.kinds.set_ranker.proof.samples import draw_samples
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.compare import compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import products_in_half
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker

Logits = NDArray[np.float32]


def measure_set_ranker(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a ranker of sets; a `proof.prove.Measure`. Raises ParityError for what the manifest says amiss."""
    facts = facts_of(sets_of(source))
    require_stated(manifest, facts)
    on_progress("reference in torch")
    reference = SetReference.of(sets_of(source), manifest)
    drawn = draw_samples(facts.schema, keys_by_table(sets_of(source)))
    samples = [reference.cut_clearly(sample) for sample in drawn]
    expected = [reference.logits(sample) for sample in samples]
    values = partial(_combined, facts)
    modes: list[ModeParity] = []
    first: list[Logits] = []
    for mode, asked in modes_of(facts.schema.mask.policy).items():
        on_progress(f"parity: {mode.replace('_', ' ')}")
        with SetRanker.load(place.bundle, config=place.config) as ranker:  # a mode begins without kept states
            answers = [asked(ranker, sample) for sample in samples]
        modes.append(compare(mode, expected, answers, values))
        first = first or answers
    noise = None
    if manifest.precision != "fp32":
        on_progress("noise of the source")
        with products_in_half(manifest.precision):
            noise = compare("noise", expected, [reference.logits(sample) for sample in samples], values)
    return Measured(
        modes,
        noise,
        options.tolerance,
        None,
        lambda original: Drift([], None),
        reference=f"{source.architecture}'s own history and rank in torch, a request in one pass",
        evidence=Evidence("logit", Series.of("logits", expected, first)),
    )


def require_stated(manifest: Manifest, facts: SetFacts) -> None:
    """Raises ParityError naming the field in which a bundle says otherwise than its source."""
    sets, labels = manifest.sets, manifest.labels
    assert sets is not None
    assert labels is not None
    schema = facts.schema
    own = {name: getattr(schema, name) for name in type(schema).model_fields}
    stated: dict[str, tuple[object, object]] = {
        f"sets.{name}": (getattr(sets, name), value) for name, value in own.items()
    }
    stated["labels.names"] = (tuple(labels.names), facts.outputs)
    stated["score"] = (manifest.score, facts.score)
    stated["sets.head_weights"] = (dict(sets.head_weights), dict(facts.head_weights))
    encoder = None if manifest.pairing is None else manifest.pairing.encoder_fingerprint
    stated["pairing"] = (encoder, facts.encoder_fingerprint)
    for field, (value, expected) in stated.items():
        if value != expected:
            raise ParityError(f"{field}: is {value}, the source says {expected}")


def _combined(facts: SetFacts, logits: Logits) -> NDArray[np.float64]:
    """Sums the logits of heads by weight: what orders candidates without rounding two of them to one."""
    weights = np.array([facts.head_weights.get(name, 0.0) for name in facts.outputs])
    exact: NDArray[np.float64] = logits.astype(np.float64) @ weights
    return exact
