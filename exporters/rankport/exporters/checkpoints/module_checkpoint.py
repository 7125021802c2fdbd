"""Checkpoint of a module in memory: its weights stand for the files that there are none of."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.folder import Head


def module_checkpoint(
    module: nn.Module,
    model: nn.Module,
    weights: nn.Module,
    *,
    head: Head,
    vocab_size: int,
    hidden_size: int,
    tokenizer_file: Path | None = None,
) -> Checkpoint:
    """Makes a checkpoint of an owner's module that is run as `model`; `weights` has what it is told apart by."""
    dtype = next((weight.dtype for weight in module.parameters()), torch.float32)
    return Checkpoint(
        path=Path(type(module).__name__),
        model=model,
        head=head,
        architecture=type(module).__name__,
        model_type="module",
        dtype=str(dtype).removeprefix("torch."),
        parameters=sum(weight.numel() for weight in weights.parameters()),
        sha256=_sha256(weights, type(module).__qualname__, tokenizer_file),
        tokenizer_file=tokenizer_file,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        quantization=None,
        notes=(),
    )


def _sha256(module: nn.Module, name: str, tokenizer: Path | None = None) -> str:
    """Hashes the name of a class, its weights, and its tokenizer."""
    total = hashlib.sha256(f"{name}\0".encode())
    for key, tensor in sorted(module.state_dict().items()):
        total.update(f"{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if tokenizer is not None:
        total.update(tokenizer.read_bytes())
    return total.hexdigest()
