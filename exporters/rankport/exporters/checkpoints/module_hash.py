"""Hash of a module in memory: what stands for a checkpoint's files where there are none."""

import hashlib
from pathlib import Path

import torch
from torch import nn


def module_sha256(module: nn.Module, name: str, tokenizer: Path | None = None) -> str:
    """Hashes the name of a class, its weights, and its tokenizer."""
    total = hashlib.sha256(f"{name}\0".encode())
    for key, tensor in sorted(module.state_dict().items()):
        total.update(f"{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if tokenizer is not None:
        total.update(tokenizer.read_bytes())
    return total.hexdigest()
