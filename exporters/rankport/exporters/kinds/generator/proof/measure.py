"""The proof of a generator bundle: logits of each token of sample texts, and greedy texts as the source writes them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.decoders.module import takes
from rankport.exporters.kinds.generator.chat.chat import read_chat
from rankport.exporters.kinds.generator.proof.samples import SampleText, draw_samples
from rankport.exporters.kinds.generator.stated import stated_generation
from rankport.exporters.kinds.stated_writing import own_ends
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.compare import Logits, compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.source_words import compared_with
from rankport.exporters.proof.windows import answers_by_form, form_of
from rankport.protos.errors import ParityError
from rankport.protos.generation import Sampling
from rankport.runtime.backends.choice import load_decode_backend
from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces
from rankport.runtime.backends.write_contract import DecodeBackend, SequenceKV
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.softmax import log_sums
from rankport.runtime.tokens import TokenRun

_GREEDY_TOKENS = 48
_LEVEL = 1e-3
"""Logits of the two likeliest tokens closer than this have no order: rounding decides which one is written.

Nor have those closer than twice the largest error that the modes and the noise show, as two errors may add up: low bits
round activations, and a last digit more or less may round one to the next code.
"""

_Asked = Mapping[str, Sequence[SampleText]]  # by form
_Each = TypeVar("_Each")


def measure_generator(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a generator; a `proof.prove.Measure`.

    Raises ParityError for other ends of a text than the folder states, or another text than the source's.
    """
    _check_stated(manifest, source)
    asked, unseen = draw_samples(source, manifest.limits)
    on_progress("reference in torch")
    expected = _expected(source, asked)
    with closing(load_decode_backend(place.bundle, place.config)) as backend:
        answers = answers_by_form(partial(_answers, backend, on_progress), asked)
    modes = [compare(mode, expected[form_of(mode)], actual) for mode, actual in answers.items()]
    noise = _noise(manifest, source, asked, expected)
    on_progress("parity: greedy texts")
    seen = [*modes, *(() if noise is None else (noise,))]
    _check_texts(place, source, _every(asked), max(_LEVEL, 2 * max(mode.max_abs_error for mode in seen)))
    served = [logits for mode, rows in answers.items() if mode.startswith("together") for logits in rows]
    evidence = Evidence("logit", Series.of("logits", _every(expected), served))
    return Measured(
        modes,
        noise,
        options.tolerance,
        None,
        partial(_drift_from, asked, served),
        reference=compared_with(None, source, manifest.quantization, unseen),
        evidence=evidence,
    )


def _check_stated(manifest: Manifest, source: Checkpoint) -> None:
    generation = manifest.generation
    assert generation is not None
    stated = stated_generation(source, own_ends(manifest))
    if stated != generation:
        raise ParityError(f"generation: the bundle has {generation}, the checkpoint says {stated}")
    _check_chat(manifest, source)


def _check_chat(manifest: Manifest, source: Checkpoint) -> None:
    """Reads the chat template again, and holds it against its own tokens."""
    chat = manifest.chat
    if chat is None:
        return
    day = None if chat.date is None else date.fromisoformat(chat.date)
    stated = read_chat(source.tokenizer_file, tokenizer_of(source.tokenizer_file), chat.arguments, day)
    if stated != chat:
        raise ParityError(f"chat: the bundle has {chat}, the checkpoint's chat template says {stated}")


def _reference(source: Checkpoint, sample: SampleText) -> Logits:
    """Computes the logits before each token of the text by one forward of the class. [text tokens, vocabulary]"""
    ids = np.concatenate([sample.prompt, sample.text[:-1]])
    kept = {"logits_to_keep": len(sample.text)} if takes(source.model, "logits_to_keep") else {}
    with torch.no_grad():
        logits = source.model(input_ids=torch.tensor(ids)[None], use_cache=False, **kept).logits[0]
    rows: Logits = logits[-len(sample.text) :].float().numpy()
    return rows


def _expected(source: Checkpoint, asked: _Asked) -> Mapping[str, Sequence[Logits]]:
    return {form: [_reference(source, sample) for sample in samples] for form, samples in asked.items()}


def _answers(
    backend: DecodeBackend, on_progress: Progress, samples: Sequence[SampleText]
) -> Mapping[str, list[Logits]]:
    answers = {}
    for mode, answer in _MODES.items():
        on_progress(f"parity: {mode}")
        answers[mode] = answer(backend, samples)
    return answers


def _every(by_form: Mapping[str, Sequence[_Each]]) -> list[_Each]:
    return [each for of_form in by_form.values() for each in of_form]


def _begin(backend: DecodeBackend, prompt: NDArray[np.int64], cut: int) -> SequenceKV:
    """Computes the KV of a prompt but for its last token, in two parts with a `cut` between, and begins a text."""
    pieces: PrefixPieces = ()
    for part in (prompt[:-1][:cut], prompt[:-1][cut:]):
        if len(part):
            pieces += backend.prefill(PrefixBatch.of([pieces], [TokenRun(part)], np.zeros(1, np.int64)))
    return backend.begin(pieces)


def _alone(backend: DecodeBackend, samples: Sequence[SampleText]) -> list[Logits]:
    return [_together(backend, [sample])[0] for sample in samples]


def _together(backend: DecodeBackend, samples: Sequence[SampleText]) -> list[Logits]:
    return _decoded(backend, samples, [len(sample.prompt) for sample in samples])


def _in_parts(backend: DecodeBackend, samples: Sequence[SampleText]) -> list[Logits]:
    return _decoded(backend, samples, [len(sample.prompt) // 2 for sample in samples])


def _decoded(backend: DecodeBackend, samples: Sequence[SampleText], cuts: Sequence[int]) -> list[Logits]:
    sequences = [_begin(backend, sample.prompt, cut) for sample, cut in zip(samples, cuts, strict=True)]
    fed = np.stack([sample.fed for sample in samples])
    steps = [backend.decode(sequences, tokens) for tokens in fed.T]
    for sequence in sequences:
        backend.end(sequence)
    return list(np.stack(steps, axis=1))


def _staggered(backend: DecodeBackend, samples: Sequence[SampleText]) -> list[Logits]:
    """Decodes texts of which one begins with every pass, in an order that turns, while others end."""
    waiting = list(enumerate(samples))
    running: dict[int, tuple[SequenceKV, int]] = {}
    rows: list[list[NDArray[np.float32]]] = [[] for _ in samples]
    while waiting or running:
        if waiting:
            place, sample = waiting.pop(0)
            running[place] = (_begin(backend, sample.prompt, len(sample.prompt)), 0)
        places = sorted(running, reverse=bool(len(waiting) % 2))
        tokens = np.array([samples[place].fed[running[place][1]] for place in places])
        logits = backend.decode([running[place][0] for place in places], tokens)
        for place, row in zip(places, logits, strict=True):
            rows[place].append(row)
            sequence, step = running[place]
            running[place] = (sequence, step + 1)
            if step + 1 == len(samples[place].fed):
                backend.end(sequence)
                del running[place]
    return [np.stack(row) for row in rows]


def _scored(backend: DecodeBackend, samples: Sequence[SampleText]) -> list[Logits]:
    """Computes the logits before every token of all texts in one pass, as items that are scored.

    Raises ParityError where the backend's own log-probabilities of those tokens are others.
    """
    prompts = [TokenRun(sample.prompt[:-1]) for sample in samples]
    prefixes = [
        backend.prefill(PrefixBatch.of([()], [run], np.zeros(1, np.int64))) if len(run.ids) else ()
        for run in prompts
    ]
    runs = [TokenRun(sample.fed) for sample in samples]
    batch = replace(PrefixBatch.of(prefixes, runs, np.arange(len(runs))), every_token=True)
    logits = backend.logits(batch)
    rows, tokens = np.arange(len(logits)), np.concatenate([sample.text for sample in samples])
    told = backend.log_probabilities(batch, rows, tokens)
    off = np.abs(told - (logits[rows, tokens] - log_sums(logits))).max()
    if not off <= _LEVEL:
        raise ParityError(f"log-probabilities are {off:.1e} from those of the logits of the same pass")
    return np.split(logits, np.cumsum([len(sample.fed) for sample in samples])[:-1])


_MODES: dict[str, Callable[[DecodeBackend, Sequence[SampleText]], list[Logits]]] = {
    "alone": _alone,
    "together": _together,
    "prompt_in_parts": _in_parts,
    "staggered": _staggered,
    "scored": _scored,
}


def _check_texts(place: Runnable, source: Checkpoint, samples: Sequence[SampleText], level: float) -> None:
    """Raises ParityError where a greedy text takes a token that the source has more than `level` below its best."""
    manifest = place.bundle.manifest
    assert manifest.generation is not None
    most = min(_GREEDY_TOKENS, manifest.limits.max_item_tokens)
    greedy = Sampling(max_tokens=most, temperature=0.0, repetition_penalty=1.0, min_tokens=0)
    served = [sample for sample in samples if len(sample.prompt) <= manifest.limits.max_prefix_tokens]
    with Generator.load(place.bundle, config=place.config) as generator:
        futures = [generator.submit_generate(sample.prompt.tolist(), greedy) for sample in served]
        for sample, future in zip(served, futures, strict=True):
            written = future.result()
            ids = np.array(written.token_ids, np.int64)
            logits = _reference(source, SampleText(sample.prompt, np.append(ids, 0)))
            _check_greedy(ids, logits, written.finish_reason == "stop", manifest.generation.stop_ids, level)


def _check_greedy(
    ids: NDArray[np.int64], logits: Logits, stopped: bool, ends: Sequence[int], level: float
) -> None:
    taken = [*ids.tolist(), *(ends[:1] if stopped else ())]
    for step, (token, row) in enumerate(zip(taken, logits, strict=False)):
        best = int(row.argmax())
        value = row[list(ends)].max() if stopped and step == len(ids) else row[token]
        if row[best] - value > level:
            raise ParityError(
                f"greedy text: at token {step} the bundle writes {token}, its source {best}, likelier by "
                f"{row[best] - value:.1e} in the logit"
            )


def _noise(
    manifest: Manifest, source: Checkpoint, asked: _Asked, still: Mapping[str, Sequence[Logits]]
) -> ModeParity | None:
    moved = moved_as_rounded(source.model, manifest)
    if moved is None:
        return None
    with moved:
        return compare("noise", _every(still), _every(_expected(source, asked)))


def _drift_from(asked: _Asked, served: Sequence[Logits], original: Checkpoint) -> Drift:
    plain = _every(_expected(original, asked))
    return Drift([compare("random tokens", plain, served)], None, Series.of("logits", plain, served))
