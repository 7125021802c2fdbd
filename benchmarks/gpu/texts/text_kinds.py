"""A cross-encoder, a classifier and a tagger in MiniLM's shape: texts a second, beside transformers, and their logits.

Exports on the spot, from random weights, as `encoding` does. Of texts that are written `conformance`
runs the tests alone: see docs/gpu.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertForSequenceClassification, BertForTokenClassification

from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.texts import LENGTHS, TINY_LENGTHS, minilm_shape, pass_rates, save_tokenizer
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.classifier.kind import CLASSIFIER
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.cross_encoder.kind import CROSS_ENCODER
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.tagger.kind import TAGGER
from rankport.exporters.kinds.tagger.options import TaggerOptions
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.steps.stage import stage
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.tokens import TokenRun, TokenRuns

_COMPARED = 16  # texts


@dataclass(frozen=True, slots=True)
class Measured:
    """A kind, its graph's role, transformers' model of it, and the labels that it has."""

    kind: ExportKind
    options: type[ExportOptions]
    role: Role
    model: type[Any]
    labels: tuple[str, ...]


KINDS: Mapping[str, Measured] = {
    "cross-encoder": Measured(
        CROSS_ENCODER, CrossEncoderOptions, "score", BertForSequenceClassification, ("relevant",)
    ),
    "classifier": Measured(
        CLASSIFIER, ClassifierOptions, "classify", BertForSequenceClassification, tuple("abcd")
    ),
    "tagger": Measured(TAGGER, TaggerOptions, "tag", BertForTokenClassification, ("O", "B-item", "I-item")),
}


def main() -> None:
    """Each kind: logits beside transformers' in fp32, then rates."""
    part = arguments(__doc__)
    lengths = LENGTHS[1:] if part.on_gpu else TINY_LENGTHS
    for name, measured in KINDS.items():
        if part.enough(12 if part.on_gpu else 0, name):
            _measure(part, name, measured, lengths)
    part.figures.add("done", True)


def _measure(part: Part, name: str, measured: Measured, lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    names = dict(enumerate(measured.labels))
    ids_of = {label: place for place, label in names.items()}
    config = minilm_shape(tiny=not part.on_gpu, id2label=names, label2id=ids_of)
    model = measured.model(config).eval()
    checkpoint = part.work / f"{name}.checkpoint"
    model.save_pretrained(checkpoint)
    save_tokenizer(checkpoint, config.vocab_size)
    backend = load_text_backend(_export(part, name, measured, checkpoint), measured.role, part.engine)
    try:
        ids = np.random.default_rng(0).integers(4, config.vocab_size, (_COMPARED, lengths[0]))
        with torch.inference_mode():
            expected = model(input_ids=torch.from_numpy(ids)).logits.numpy()
        actual = np.asarray(backend.compute(TokenRuns.of([TokenRun(run) for run in ids])))
        error = float(np.abs(actual.reshape(expected.shape) - expected).max())
        part.figures.add(f"{name} logits", {"max_abs_error": error, "spread": float(expected.std())})
        peer = model.to(part.device, torch.float16 if part.on_gpu else torch.float32)
        for length in lengths:
            pass_rates(part, backend, lambda rows: peer(input_ids=rows).logits, config, length, name=name)
    finally:
        backend.close()


def _export(part: Part, name: str, measured: Measured, checkpoint: Path) -> Bundle:
    chosen = measured.options(
        target="onnx-cuda" if part.on_gpu else "onnx-cpu",
        precision="fp16" if part.on_gpu else None,
        overwrite=True,
    )
    with BundleStaging(part.work / f"{name}.bundle", overwrite=True) as staging:
        draft, _ = stage(staging, measured.kind, checkpoint, chosen, [], print)
        staging.finalize(draft)
        return staging.publish()


if __name__ == "__main__":
    main()
