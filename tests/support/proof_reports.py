"""Proof reports of sample bundles, with values as a measurement gives them, for the page and the terminal."""

from dataclasses import replace

import numpy as np

from rankport.exporters.proof.agreement import OwnerAgreement
from rankport.exporters.proof.evidence import Evidence, LengthScores, Series
from rankport.exporters.proof.prove import Proof
from rankport.runtime.bundle.manifest import (
    Agreement,
    BatchIndependence,
    Calibration,
    ModeParity,
    Parity,
    Quality,
    Quantization,
    QuantizedPart,
)
from rankport.sdk.cli.output.report.report import ProofReport
from rankport.sdk.cli.output.run_facts import RunFacts
from support.bundle_samples import RANKER_FILES, manifest_of, ranker_draft

MODES = ("full_sequence", "prefix_reuse", "prefix_extension", "one_item", "many_prefixes")
RUN = RunFacts(
    command="rankport verify ranker.bundle --checkpoint RANKER --html proof.html",
    date="2026-05-04T10:20:30+00:00",
    machine="AMD EPYC, 2 cores, Linux x86_64, Python 3.11.9",
    tools={"rankport": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
)
QUALITY = Quality(
    requests=120,
    ndcg_at_1_source=0.6583,
    ndcg_at_1_bundle=0.6639,
    ndcg_at_10_source=0.8178,
    ndcg_at_10_bundle=0.8176,
    max_ndcg_loss=0.01,
)
AGREEMENT = Agreement(
    sha256="b" * 64,
    compared="scores",
    transform="sigmoid",
    requests=40,
    items=800,
    truncated=3,
    max_abs_error=2.34e-4,
    mean_abs_error=1.2e-5,
    pearson=0.999998,
    kendall_tau=0.998765,
    max_abs_tolerance=1e-3,
    min_kendall_tau=0.99,
)
EXACT = "Qwen3ForCausalLM in transformers 5.23.0, fp32"
LOW_BITS = (
    "its own int8 maths in torch 2.13.0, quantized anew (Qwen3ForCausalLM in transformers 5.23.0); drift is from the "
    "fp32 original"
)


def mode(name: str, error: float, *, requests: int = 12) -> ModeParity:
    """Figures of a mode whose largest error is `error`."""
    return ModeParity(
        mode=name,
        requests=requests,
        items=98,
        max_abs_error=error,
        mean_abs_error=error / 7,
        relative_error=error / 3,
        kendall_tau=0.99987,
        top_k_agreement=0.996,
    )


def exact_report(*, values: int = 2400, failures: tuple[str, ...] = ()) -> ProofReport:
    """A bundle in fp32 over `values` logits, judged and compared with its owner's scores."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=values) * 3
    bundle = logits + rng.normal(size=values) * 1e-6
    ndcg = np.clip(rng.normal(0.8, 0.15, 120), 0, 1)
    scores = 1 / (1 + np.exp(-logits))
    evidence = Evidence(
        unit="label logit",
        parity=Series.of("logits", [logits], [bundle]),
        ndcg=Series.of("NDCG@10", ndcg, np.where(rng.random(120) < 0.05, ndcg * 0.97, ndcg)),
        lengths=LengthScores.of(rng.integers(3, 90, values), scores),
        owner=Series.of("yours", [scores[:800]], [scores[:800] + rng.normal(size=len(scores[:800])) * 3e-5]),
    )
    parity = Parity(
        backend="onnxruntime-cpu",
        precision="fp32",
        max_abs_tolerance=1e-4,
        max_relative_tolerance=1e-2,
        min_kendall_tau=0.999,
        modes=[mode(f"{name}/text", 1.7e-6 * (place + 1)) for place, name in enumerate(MODES)],
        reference=EXACT,
        batches=BatchIndependence(
            requests=1848, items=36_960, sizes=[1, 16, 256], top=10, changed=0, max_abs_difference=2.4e-6
        ),
    )
    manifest = manifest_of(ranker_draft(parity=parity, quality=QUALITY), RANKER_FILES)
    agreement = OwnerAgreement(AGREEMENT, "worst: scores.jsonl line 3", "")
    proof = Proof(parity, QUALITY, None, agreement, evidence)
    return ProofReport(manifest, {"onnx-cpu": proof}, failures, RUN)


def low_bit_report() -> ProofReport:
    """A bundle quantized at export, with noise and drift."""
    exact = exact_report()
    rng = np.random.default_rng(1)
    logits = rng.normal(size=900) * 3
    drifted = Series.of("logits", [logits], [logits + rng.normal(size=900) * 0.08])
    part = QuantizedPart(
        part="linear",
        layers=28,
        weights=5_000_000,
        bits=8,
        type="int",
        symmetric=True,
        activations="int8 a token",
    )
    quantization = Quantization(
        by="export",
        method="rankport",
        format="int8",
        parts=[part],
        kept=["lm_head"],
        calibration=Calibration(requests=256, tokens=40_000, sha256="d" * 64),
    )
    parity = Parity(
        backend="onnxruntime-cpu",
        precision="int8",
        max_abs_tolerance=None,
        max_relative_tolerance=1e-2,
        min_kendall_tau=0.97,
        modes=[mode(f"{name}/text", 4e-3) for name in MODES],
        noise=mode("noise", 2e-3),
        reference=LOW_BITS,
    )
    drift = [mode("random tokens", 0.31), mode("judged", 0.27, requests=120)]
    manifest = manifest_of(
        ranker_draft(parity=parity, quality=QUALITY, quantization=quantization, drift=drift), RANKER_FILES
    )
    evidence = replace(exact.first.evidence, drift=drifted, owner=None)
    return ProofReport(manifest, {"onnx-cpu": Proof(parity, QUALITY, drift, None, evidence)}, (), RUN)
