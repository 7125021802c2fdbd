"""The proof of an encoder-decoder's bundle: logits of each token of sample answers, and texts as the source writes."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.seq2seq.proof.texts import check_texts
from rankport.exporters.kinds.seq2seq.stated import stated_generation
from rankport.exporters.kinds.stated_writing import own_ends
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.compare import Logits, compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.windows import LONGEST
from rankport.protos.errors import ParityError
from rankport.runtime.backends.choice import load_seq2seq_backend
from rankport.runtime.backends.write_contract import AnswerKV, Seq2SeqBackend
from rankport.runtime.bundle.manifest import Limits, Manifest, ModeParity
from rankport.runtime.tokens import TokenRun, TokenRuns

_STEPS, _LONGEST_TEXT = 12, 96
_MOST_STEPS = 512  # of the one sample that goes as far as the limits allow: each is a pass
_TO_THE_END = "to_the_end"
_LEVEL = 1e-3  # of logits that have no order


@dataclass(frozen=True, slots=True)
class Sample:
    """A text to read and the tokens that the decoder is fed, as token ids."""

    text: NDArray[np.int64]  # [text tokens]
    fed: NDArray[np.int64]  # [steps] that which all answers begin behind first


def measure_seq2seq(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures an encoder-decoder that writes; a `proof.prove.Measure`.

    Raises ParityError for other rules of a text than the folder states, or another text than the source's.
    """
    start = _checked_start(manifest, source)
    samples = _samples(manifest.limits, source.vocab_size, start)
    on_progress("reference in torch")
    expected = [_reference(source, sample) for sample in samples]
    answers = {}
    with closing(load_seq2seq_backend(place.bundle, place.config)) as backend:
        for mode, answer in _MODES.items():
            on_progress(f"parity: {mode}")
            answers[mode] = answer(backend, samples)
        far = _far_sample(manifest.limits, source.vocab_size, start)
        on_progress(f"parity: {_TO_THE_END}")
        logits = _alone(backend, far)
    last = [_reference(source, sample) for sample in far]
    modes = [compare(mode, expected, actual) for mode, actual in answers.items()]
    modes.append(compare(_TO_THE_END, last, logits))
    on_progress("parity: greedy texts")
    # Two errors of what the modes show may add up: low bits round activations.
    level = max(_LEVEL, 2 * max(mode.max_abs_error for mode in modes))
    check_texts(place, source, [sample.text for sample in samples[::2]], level)
    served = answers["together"]
    return Measured(
        modes,
        _noise(manifest, source, [*samples, *far], [*expected, *last]),
        options.tolerance,
        None,
        partial(_drift_from, samples, served),
        evidence=Evidence("logit", Series.of("logits", expected, served)),
    )


def _checked_start(manifest: Manifest, source: Checkpoint) -> int:
    generation = manifest.generation
    assert generation is not None
    stated = stated_generation(source, own_ends(manifest))
    if stated != generation or generation.decoding is None:
        raise ParityError(f"generation: the bundle has {generation}, the checkpoint says {stated}")
    return generation.decoding.start_id


def _samples(limits: Limits, vocabulary: int, start: int) -> list[Sample]:
    """Draws texts and answers of random tokens: a pair of answers to each of the shortest text and longer ones."""
    rng = np.random.default_rng(0)
    longest = min(limits.max_prefix_tokens, _LONGEST_TEXT)
    steps = min(_STEPS, limits.max_item_tokens)
    samples = []
    for length in sorted({1, max(1, longest // 3), longest}):
        text = rng.integers(0, vocabulary, length)
        samples += [Sample(text, np.append(start, rng.integers(0, vocabulary, steps - 1))) for _ in range(2)]
    return samples


def _far_sample(limits: Limits, vocabulary: int, start: int) -> list[Sample]:
    """Draws a text and an answer as long as the limits allow: places that no other sample has may be wrong."""
    rng = np.random.default_rng(1)
    text = rng.integers(0, vocabulary, min(limits.max_prefix_tokens, LONGEST))
    return [
        Sample(
            text, np.append(start, rng.integers(0, vocabulary, min(limits.max_item_tokens, _MOST_STEPS) - 1))
        )
    ]


def _reference(source: Checkpoint, sample: Sample) -> Logits:
    """Computes the logits behind each token of an answer by one forward of the class. [steps, vocabulary]"""
    with torch.no_grad():
        logits = source.model(
            input_ids=torch.tensor(sample.text)[None],
            decoder_input_ids=torch.tensor(sample.fed)[None],
            use_cache=False,
        ).logits[0]
    rows: Logits = logits.float().numpy()
    return rows


def _alone(backend: Seq2SeqBackend, samples: Sequence[Sample]) -> list[Logits]:
    return [_together(backend, [sample])[0] for sample in samples]


def _together(backend: Seq2SeqBackend, samples: Sequence[Sample]) -> list[Logits]:
    answers = backend.encode(_runs(samples), [1] * len(samples))
    fed = np.stack([sample.fed for sample in samples])
    steps = [backend.decode(answers, tokens[:, None])[:, 0] for tokens in fed.T]
    for answer in answers:
        backend.end(answer)
    return list(np.stack(steps, axis=1))


def _staggered(backend: Seq2SeqBackend, samples: Sequence[Sample]) -> list[Logits]:
    """Decodes answers of which one begins with every pass, while others end."""
    waiting, running = list(enumerate(samples)), dict[int, tuple[AnswerKV, int]]()
    rows: list[list[NDArray[np.float32]]] = [[] for _ in samples]
    while waiting or running:
        if waiting:
            place, sample = waiting.pop(0)
            running[place] = (backend.encode(_runs([sample]), [1])[0], 0)
        places = sorted(running, reverse=bool(len(waiting) % 2))
        tokens = np.array([[samples[place].fed[running[place][1]]] for place in places])
        logits = backend.decode([running[place][0] for place in places], tokens)
        for place, row in zip(places, logits, strict=True):
            rows[place].append(row[0])
            answer, step = running.pop(place)
            if step + 1 < len(samples[place].fed):
                running[place] = (answer, step + 1)
            else:
                backend.end(answer)
    return [np.stack(row) for row in rows]


def _beams(backend: Seq2SeqBackend, samples: Sequence[Sample]) -> list[Logits]:
    """Decodes both answers to each text beside each other; after each token they change places."""
    answers = backend.encode(_runs(samples[::2]), [2] * (len(samples) // 2))
    fed = np.stack([sample.fed for sample in samples]).reshape(len(answers), 2, -1)
    steps, turned = [], np.array([1, 0])
    for step in range(fed.shape[2]):
        at = np.arange(2) if step % 2 == 0 else turned
        steps.append(backend.decode(answers, fed[:, at, step])[:, at])
        for answer in answers:
            backend.reorder(answer, turned)
    for answer in answers:
        backend.end(answer)
    return list(np.stack(steps, axis=2).reshape(len(samples), fed.shape[2], -1))


_MODES: dict[str, Callable[[Seq2SeqBackend, Sequence[Sample]], list[Logits]]] = {
    "alone": _alone,
    "together": _together,
    "staggered": _staggered,
    "beams": _beams,
}


def _runs(samples: Sequence[Sample]) -> TokenRuns:
    return TokenRuns.of([TokenRun(sample.text) for sample in samples])


def _noise(
    manifest: Manifest, source: Checkpoint, samples: Sequence[Sample], still: Sequence[Logits]
) -> ModeParity | None:
    moved = moved_as_rounded(source.model, manifest)
    if moved is None:
        return None
    with moved:
        return compare("noise", still, [_reference(source, sample) for sample in samples])


def _drift_from(samples: Sequence[Sample], served: Sequence[Logits], original: Checkpoint) -> Drift:
    plain = [_reference(original, sample) for sample in samples]
    return Drift([compare("random tokens", plain, served)], None, Series.of("logits", plain, served))
