"""The proof of a list ranker: every form of a list, asked of the runtime itself, against the source in torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.score_checks import check_scores
from rankport.exporters.kinds.list_ranker.graphs import list_model
from rankport.exporters.kinds.list_ranker.proof.orders import order_dependence
from rankport.exporters.kinds.list_ranker.proof.reference import ListReference
from rankport.exporters.kinds.list_ranker.proof.samples import ListSample, across_window, draw_samples
from rankport.exporters.kinds.list_ranker.proof.stated import require_stated
from rankport.exporters.kinds.window_sizes import window_sizes
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.compare import Logits, compare, worst_of
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.source_words import compared_with
from rankport.exporters.proof.windows import windows_to_cross
from rankport.protos.columns import ItemColumns
from rankport.protos.types import Item
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.prompt.lists.list_prompt import EncodedLists, ListPrompt

Expected = Sequence[Logits]  # a sample each


def measure_list_ranker(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a list ranker; a `proof.prove.Measure`.

    Raises ParityError where the bundle states another prompt, marker or joining than its source.
    """
    require_stated(manifest, list_model(source).form, source)
    asked = _Asked.of(manifest, source)
    on_progress("reference in torch")
    expected = asked.expected(source)
    moved, noise = moved_as_rounded(source.model, manifest), None
    if moved is not None:
        with moved:
            again = asked.expected(source)
        # Lists of few items differ in how close these are.
        noise = worst_of(asked.modes(expected, again)).model_copy(update={"mode": "noise"})
    with ListRanker.load(place.bundle, config=place.config) as ranker:
        answers = []
        for sample in asked.samples:
            on_progress(f"parity: {sample.mode.replace('_', ' ')}")
            answers.append(_ask(ranker, sample, sample.items))
        on_progress("order dependence")
        blocks = [sample for sample in asked.samples if sample.mode == "one_block"]
        order = order_dependence(blocks, lambda sample, items: _scores(ranker, sample, items))
    labels, score = manifest.labels, manifest.score
    assert labels is not None
    assert score is not None
    check_scores(labels, score, answers)
    unit = "cosine" if score.kind == "cosine" else "logit"
    return Measured(
        asked.modes(expected, answers),
        noise,
        options.tolerance,
        None,
        lambda original: asked.drift(original, answers, unit),
        reference=compared_with(
            f"{source.architecture} in torch, {_texts(manifest)} at a time as one text",
            source,
            manifest.quantization,
            asked.unseen,
        ),
        evidence=Evidence(unit, Series.of(unit, expected, answers)),
        order=order,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Requests of a proof, and where the bundle's blocks of each begin."""

    manifest: Manifest
    samples: Sequence[ListSample]
    blocks: Sequence[list[int]]  # offsets of each sample's items
    unseen: int | None  # the shortest window that no block crosses

    @classmethod
    def of(cls, manifest: Manifest, source: Checkpoint) -> "_Asked":
        tokenizer = tokenizer_of(source.tokenizer_file)
        assert tokenizer is not None, "list_ranker_prompt"
        samples, prompt = draw_samples(manifest, tokenizer), ListPrompt(manifest, tokenizer)
        sampled = max(_longest_block(_encoded(prompt, each)) for each in samples)
        window, unseen = _window(manifest, source, sampled)
        if window is not None:
            across = across_window(manifest, tokenizer, window)
            samples, unseen = (samples, window) if across is None else ([*samples, across], unseen)
        return cls(manifest, samples, [_encoded(prompt, each).blocks.tolist() for each in samples], unseen)

    def expected(self, source: Checkpoint) -> Expected:
        """Scores all samples by a source."""
        assert source.tokenizer_file is not None
        reference = ListReference.of(list_model(source), source.tokenizer_file, self.manifest.limits)
        return [
            reference.logits(sample.fields, sample.items, blocks, sample.truncation)
            for sample, blocks in zip(self.samples, self.blocks, strict=True)
        ]

    def modes(self, expected: Expected, answers: Expected) -> list[ModeParity]:
        """Compares answers mode by mode."""
        by_mode: Mapping[str, tuple[list[Logits], list[Logits]]] = {
            sample.mode: ([], []) for sample in self.samples
        }
        for sample, wanted, given in zip(self.samples, expected, answers, strict=True):
            by_mode[sample.mode][0].append(wanted)
            by_mode[sample.mode][1].append(given)
        return [compare(mode, wanted, given) for mode, (wanted, given) in by_mode.items()]

    def drift(self, original: Checkpoint, answers: Expected, unit: str) -> Drift:
        """Compares answers with another source."""
        plain = self.expected(original)
        return Drift(self.modes(plain, answers), None, Series.of(unit, plain, answers))


def _encoded(prompt: ListPrompt, sample: ListSample) -> EncodedLists:
    return prompt.encode(sample.fields, ItemColumns.of(sample.items), sample.truncation)


def _longest_block(encoded: EncodedLists) -> int:
    return int(encoded.runs.lengths[: len(encoded.blocks) - 1].max())


def _window(manifest: Manifest, source: Checkpoint, sampled: int) -> tuple[int | None, int | None]:
    """Finds the window that a block is to cross, and the shortest that none does."""
    lists, body = manifest.lists, list_model(source).model
    assert lists is not None
    if sampled >= lists.max_tokens:
        return None, None
    ids = torch.ones(1, 3, dtype=torch.int64)
    windows = window_sizes(body, lambda: body(input_ids=ids, use_cache=False))
    return windows_to_cross(windows, sampled, lists.max_tokens)


def _texts(manifest: Manifest) -> str:
    assert manifest.lists is not None
    return "the prompt or an item" if manifest.lists.alone else "a block"


def _ask(ranker: ListRanker, sample: ListSample, items: Sequence[Item]) -> Logits:
    return ranker.score(sample.fields, items, truncation=sample.truncation).logits


def _scores(ranker: ListRanker, sample: ListSample, items: Sequence[Item]) -> NDArray[np.float32]:
    return ranker.score(sample.fields, items, truncation=sample.truncation).scores
