"""A proof's source in words: what exactly a bundle was compared with."""

import torch
import transformers

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.runtime.bundle.manifest import Quantization


def source_in_words(source: Checkpoint, quantization: Quantization | None) -> str:
    """Says what the checkpoint is run by. `quantization` is what the bundle's manifest says of it."""
    merged = "" if source.adapter is None else f" with its {source.adapter.facts.peft_type} adapter merged"
    merged += "" if source.task is None else f" with its adapter of {source.task}"
    if isinstance(source.model, OnnxModel):
        runtime = source.model.graph.runtime.version
        return f"{GRAPH} as it was given, run by ONNX Runtime {runtime} one text at a time, without padding, fp32"
    model = f"{source.architecture}{merged} in transformers {transformers.__version__}"
    if quantization is None:
        return f"{model}, fp32"
    low_bits = f"{quantization.format} maths in torch {torch.__version__}"
    if quantization.by == "export":
        return f"its own {low_bits}, quantized anew ({model}); drift is from the fp32 original"
    return f"the checkpoint's own {low_bits} ({model})"


def compared_with(
    words: str | None, source: Checkpoint, quantization: Quantization | None, unseen: int | None
) -> str | None:
    """Adds to what a bundle is compared with, None for the source alone, a window that no sample crosses, if any."""
    if unseen is None:
        return words
    words = words or source_in_words(source, quantization)
    return f"{words}; not beyond the window of {unseen:,} tokens, which no sample crosses"
