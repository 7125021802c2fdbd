"""The fingerprint: fixed by its definition, moved by what changes an output and by nothing else."""

from pathlib import Path
from typing import Any

import pytest

from rankport.runtime.bundle.fingerprint import fingerprint
from rankport.runtime.bundle.manifest import (
    AxisRange,
    Calibration,
    Embedding,
    FileEntry,
    Labels,
    Limits,
    ManifestDraft,
    ModelShape,
    ModeParity,
    Parity,
    Prompt,
    Quality,
    Quantization,
    Score,
    Segment,
    TokenizationReport,
)
from rankport.runtime.bundle.manifest_json import parse_manifest
from support.bundle_samples import ENCODER_FILES, RANKER_FILES, encoder_draft, manifest_of, ranker_draft

GOLDEN = Path(__file__).parent / "golden" / "manifest.json"
GOLDEN_FINGERPRINT = "1e50a2c3ace962646ad6fbfe3d6f69cca6cdbd6f0ffecf285b76c1873009fa8d"
BASE = manifest_of(ranker_draft(), RANKER_FILES)

PARITY = Parity(
    backend="onnxruntime-cpu",
    precision="fp32",
    max_abs_tolerance=1e-4,
    min_kendall_tau=0.999,
    modes=[
        ModeParity(
            mode="full",
            items=10,
            max_abs_error=1e-6,
            mean_abs_error=2e-7,
            relative_error=3e-7,
            kendall_tau=1.0,
            top_k_agreement=1.0,
        )
    ],
)
QUALITY = Quality(
    requests=10, ndcg_at_1_source=0.5, ndcg_at_1_bundle=0.5, ndcg_at_10_source=0.7, ndcg_at_10_bundle=0.7
)


def test_the_golden_manifest_keeps_its_fingerprint() -> None:
    manifest = parse_manifest(GOLDEN.read_bytes())
    assert fingerprint(manifest, manifest.files) == manifest.fingerprint == GOLDEN_FINGERPRINT


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"version": "2"},
        {"source": ranker_draft().source.model_copy(update={"tools": {"rankport": "9"}})},
        {"tokenization": TokenizationReport(samples=9, different=1, source="titles")},
        {"parity": PARITY},
        {"quality": QUALITY},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_no_output_leaves_it(change: dict[str, Any]) -> None:
    assert fingerprint(ranker_draft(**change), BASE.files) == BASE.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"shape": ModelShape(hidden_size=4, vocab_size=15, layers=BASE.shape.layers)},
        {"graphs": BASE.graphs[::-1]},
        {"axes": {"tokens": AxisRange(min=1, max=65)}},
        {"tokenizer": None},
        {"prompt": Prompt(prefix=BASE.prompt.prefix, item=[Segment(item=True)])},
        {"labels": Labels(source="lm_head", names=["yes", "no"], ids=[11, 10])},
        {"labels": Labels(source="lm_head", names=["yes", "no"], ids=[11, 12], positive=1)},
        {"score": Score(kind="logit", transform="log-odds")},
        {"limits": Limits(max_prefix_tokens=8, max_item_tokens=7)},
        {"embedding": Embedding(tokens=2, hidden_size=4, dtype="float32")},
        {"pairing": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_an_output_moves_it(change: dict[str, Any]) -> None:
    assert fingerprint(ranker_draft(**change), BASE.files) != BASE.fingerprint


@pytest.mark.parametrize("name", RANKER_FILES)
def test_a_file_moves_it_unless_it_is_a_report(name: str) -> None:
    changed = manifest_of(ranker_draft(), {**RANKER_FILES, name: b"other"})
    assert (changed.fingerprint == BASE.fingerprint) == name.startswith("reports/")


def test_the_order_in_which_files_are_listed_does_not_matter() -> None:
    assert fingerprint(BASE, BASE.files[::-1]) == BASE.fingerprint


def test_a_file_swapped_with_another_moves_it() -> None:
    first, second, *rest = BASE.files
    swapped = [
        FileEntry(path=first.path, size=second.size, sha256=second.sha256),
        FileEntry(path=second.path, size=first.size, sha256=first.sha256),
        *rest,
    ]
    assert fingerprint(BASE, swapped) != BASE.fingerprint


def test_what_is_counted_of_a_calibration_moves_it_no_more_than_before_it_was() -> None:
    def draft(calibration: Calibration | None) -> ManifestDraft:
        given = Quantization(
            by="export", method="rtn", format="int4", parts=[], kept=[], calibration=calibration
        )
        return ranker_draft(quantization=given)

    plain = Calibration(requests=1, tokens=2, sha256="0" * 64)
    counted = plain.model_copy(update={"cut": 3, "passed_over": 4})
    assert fingerprint(draft(counted), BASE.files) == fingerprint(draft(plain), BASE.files)
    assert fingerprint(draft(None), BASE.files) != fingerprint(draft(plain), BASE.files)


def test_a_default_written_out_is_the_default() -> None:
    spelled = Prompt(
        prefix=BASE.prompt.prefix,
        item=[Segment(item=True, max_tokens=4, keep="start", text=None), BASE.prompt.item[1]],
    )
    assert fingerprint(ranker_draft(prompt=spelled), BASE.files) == BASE.fingerprint


def test_encoder_and_ranker_differ() -> None:
    assert manifest_of(encoder_draft(), ENCODER_FILES).fingerprint != BASE.fingerprint
