"""Noise: how far a source moves from itself where a bundle of it rounds, the least that any maths will be off by."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from rankport.runtime.bundle.manifest import Manifest, Precision

HALF: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
_SHAKE = 1e-6


def moved_as_rounded(model: nn.Module, manifest: Manifest) -> AbstractContextManager[None] | None:
    """Moves the source, while open, to half precision or by rounding alone; None where the bundle computes exactly."""
    if manifest.precision != "fp32":
        return _in_half_precision(model, manifest.precision)
    if manifest.quantization is None or not manifest.quantization.rounds_activations:
        return None
    return _shaken(model)


def products_in_half(precision: Precision) -> AbstractContextManager[object]:
    """Lets any module, while open, multiply in half precision, as torch's own mixed precision does."""
    return torch.autocast("cpu", HALF[precision])


@contextmanager
def _in_half_precision(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Lets the model, while open, compute in half precision as transformers does: its own code says what stays fp32.

    Low-bit weights stay as they are, and what they make of states is in half precision.
    """
    half = HALF[precision]
    full = {weight: weight.data for weight in model.parameters()}
    # Rows of a low-bit table are fp32: no parameter tells them otherwise.
    handle = model.get_input_embeddings().register_forward_hook(  # type: ignore[operator]
        # Rows of I-BERT's come with a scale.
        lambda module, arguments, rows: rows.to(half) if isinstance(rows, Tensor) else rows
    )
    try:
        for weight in full:
            weight.data = weight.data.to(half)
        yield
    finally:
        handle.remove()
        for weight, data in full.items():
            weight.data = data


@contextmanager
def _shaken(model: nn.Module) -> Iterator[None]:
    """Puts input embeddings, while open, off by one part in a million: about what the order of a sum changes."""
    generator = torch.Generator().manual_seed(0)

    def shake(module: object, arguments: object, rows: Tensor) -> Tensor:
        return rows * (1 + _SHAKE * torch.randn(rows.shape, generator=generator))

    handle = model.get_input_embeddings().register_forward_hook(shake)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()
