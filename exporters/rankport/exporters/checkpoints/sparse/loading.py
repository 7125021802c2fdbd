"""A loaded masked LM and what its folder says, made one module."""

import json
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.fill import require_finite
from rankport.exporters.checkpoints.sentence_transformers.dense import WEIGHTS_FILE, module_weights
from rankport.exporters.checkpoints.sparse.folder import sparse_form
from rankport.exporters.checkpoints.sparse.module import SparseEncoder
from rankport.protos.errors import CheckpointError

_OWN = ("post_processor", "truncation", "padding")
"""Parts of a tokenizer.json that a bundle's prompt and limits say in their stead."""


def sparse_encoder(path: Path, model: nn.Module, tokenizer_file: Path | None) -> SparseEncoder:
    """Makes the module of a folder of a sparse encoder. Raises CheckpointError for what cannot be exported."""
    form = sparse_form(path)
    weights = None
    if form.static is not None:
        if tokenizer_file is not None:
            _require_one_tokenizer(tokenizer_file, form.static / "tokenizer.json")
        weights = _static_weights(form.static)
    return SparseEncoder(model, form, weights).eval().requires_grad_(False)


def _static_weights(folder: Path) -> Tensor:
    file = folder / WEIGHTS_FILE
    shape = (0,)
    if file.is_file():
        try:
            with safetensors.safe_open(file, "pt") as stored:
                names = list(stored.keys())
                shape = (stored.get_slice("weight").get_shape()[0],) if "weight" in names else shape
        except (safetensors.SafetensorError, OSError):
            pass  # told below
    weight = module_weights(folder, "SparseStaticEmbedding", {"weight": shape})["weight"]
    require_finite("weight", weight)
    return weight


def _require_one_tokenizer(items: Path, queries: Path) -> None:
    """Raises CheckpointError where queries are cut into other tokens than items: a bundle has one tokenizer."""
    if not queries.is_file():
        raise CheckpointError(
            f"{queries.parent} has no tokenizer.json: save the model anew with sentence-transformers"
        )
    ours, theirs = (_cutting(file) for file in (items, queries))
    other = next((name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)), None)
    if other is not None:
        raise CheckpointError(
            f"{queries}: {other} is other than in {items}, and a bundle reads queries and items by one tokenizer: save "
            "the model with the same for both"
        )


def _cutting(file: Path) -> dict[str, Any]:
    parts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {name: value for name, value in parts.items() if name not in _OWN}
