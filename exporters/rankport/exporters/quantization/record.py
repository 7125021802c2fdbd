"""A manifest's record of a low-bit model."""

import dataclasses

from rankport.exporters.quantization.facts import QuantizationFacts
from rankport.exporters.quantization.recipes import RECIPES
from rankport.runtime.bundle.manifest import Calibration, Quantization, QuantizedPart


def record(facts: QuantizationFacts, calibration: Calibration | None = None) -> Quantization:
    """Makes the manifest's record of what is low-bit; `by` says whether the checkpoint came so."""
    return Quantization(
        by="export" if facts.format in RECIPES else "checkpoint",
        method=facts.method,
        format=facts.format,
        parts=[QuantizedPart(**dataclasses.asdict(scheme)) for scheme in facts.schemes],
        kept=list(facts.kept),
        calibration=calibration,
    )
