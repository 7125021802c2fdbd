"""Adapters over folders in a published layout: merged by the names of its code, before tensors are renamed.

Peft asks for modules of those names: they are made of the stored tensors, and compute nothing.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.config.heads import head_name
from rankport.exporters.checkpoints.forms.adapters.config import AdapterConfig
from rankport.exporters.checkpoints.forms.adapters.merge import AdapterFacts, merge_lora, read_adapter
from rankport.exporters.checkpoints.forms.adapters.vocabulary import Vocabulary
from rankport.exporters.checkpoints.forms.fill import require_finite, require_full_precision
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor, with_made
from rankport.exporters.checkpoints.forms.renamed_tensors import RenamedTensors
from rankport.protos.errors import CheckpointError

_TABLE = "embeddings.word_embeddings"
_TABLES = "_embeddings"  # ending of layers whose weight has a row for each id


def require_mergeable(folder: CheckpointFolder) -> None:
    """Raises CheckpointError for a folder in a published layout into which no adapter of peft is merged."""
    if folder.published is None:
        return
    if folder.adapters is not None:
        raise CheckpointError(
            f"base {str(folder.path)!r} has an adapter for each of its tasks (lora_adaptations), and nothing says "
            "which of them, if any, the adapter of peft was trained over: merge both where it was trained"
        )
    if not folder.published.takes_adapters:
        raise CheckpointError(
            f"base {str(folder.path)!r} is in the layout of {folder.published.code}, by whose names no adapter is "
            "merged here: merge it where it was trained, and export the whole"
        )
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"base {str(folder.path)!r} is in the layout of {folder.published.code} and quantized "
            f"({folder.quantization_method}): give the checkpoint that it was quantized from with --base"
        )


def merge_by_published_names(
    folder: CheckpointFolder, adapter: Path, head: Head
) -> tuple[CheckpointFolder, AdapterFacts]:
    """Gives the folder with tensors that an adapter is merged into, in fp32, and facts of the adapter.

    Raises CheckpointError naming the field or tensor that cannot be merged exactly.
    """
    words, renamed = folder.words, folder.tensors
    assert words is not None
    assert isinstance(renamed, RenamedTensors)
    config, stored = AdapterConfig.read(adapter), read_adapter(adapter)
    own = dataclasses.replace(folder, tensors=renamed.stored)
    around = words.tensors.prefix if _has_head(stored, words.tensors.prefix) else ""
    if around and head == "none":
        stored = {name: tensor for name, tensor in stored.items() if name.startswith(around)}
    names = _trained_names(own, words.tensors.prefix, around, head)
    tensors = {trained: _read(own, name) for trained, name in names.items()}
    brought = (stored.keys() & folder.brought) - tensors.keys()
    root = _Modules(tensors | {name: torch.zeros_like(stored[name]) for name in brought}, f"{around}{_TABLE}")
    vocabulary = Vocabulary.of(root, root, config)
    notes = vocabulary.prepare(stored)
    merge_lora(root, config, stored)
    merged = {names.get(trained, trained): tensor for trained, tensor in root.state_dict().items()}
    made = {
        name: MadeTensor(tuple(tensor.shape), (name,), partial(merged.__getitem__, name))
        for name, tensor in merged.items()
    }
    rows = len(root.get_parameter(f"{around}{_TABLE}.weight"))
    whole = dataclasses.replace(
        folder,
        raw=folder.raw | ({"vocab_size": rows} if notes else {}),
        tensors=RenamedTensors(with_made(own, made).tensors, words, None),
    )
    return whole, AdapterFacts.of(config, notes)


def _has_head(stored: Mapping[str, Tensor], prefix: str) -> bool:
    """Tells whether the model that was trained had a head around its body."""
    return any(name.startswith(prefix) or not _in_body(name) for name in stored)


def _in_body(name: str) -> bool:
    return head_name(name) in (None, "pooler")


def _trained_names(folder: CheckpointFolder, prefix: str, around: str, head: Head) -> dict[str, str]:
    """Gives the stored name of each tensor by that in the model that was trained, whose head may be another."""
    below = any(name.startswith(prefix) for name in folder.tensors)
    names = {}
    for name in folder.tensors:
        if name.startswith(prefix) or (not below and _in_body(name)):
            names[around + name.removeprefix(prefix)] = name
        elif around and head != "none" and not folder.brought:
            names[name] = name
    return names


def _read(folder: CheckpointFolder, name: str) -> Tensor:
    require_full_precision(folder, name)
    tensor = folder.tensors.read(name)
    require_finite(name, tensor)
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


class _Modules(nn.Module):
    """Modules by the names of tensors: matrices as linear layers or tables, all else as parameters."""

    def __init__(self, tensors: Mapping[str, Tensor], table: str) -> None:
        super().__init__()
        self._table = table
        for name, tensor in sorted(tensors.items(), key=lambda item: not item[0].endswith(".weight")):
            owner, _, leaf = name.rpartition(".")
            module = self._at(owner, tensor if leaf == "weight" else None)
            if tensor.is_floating_point():
                module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
            else:
                module.register_buffer(leaf, tensor)

    def _at(self, path: str, weight: Tensor | None) -> nn.Module:
        """Finds the module of a name, made where there is none: of a matrix, one that peft knows."""
        module: nn.Module = self
        *parents, leaf = path.split(".")
        for name in parents:
            if name not in module._modules:
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        if leaf not in module._modules:
            module.add_module(leaf, _layer(path, weight))
        return module.get_submodule(leaf)

    def get_input_embeddings(self) -> nn.Module:
        """Finds the table of tokens, or what peft put around it. Raises CheckpointError where there is none."""
        try:
            return self.get_submodule(self._table)
        except AttributeError as error:
            raise CheckpointError(
                f"the base of the adapter lacks tensor {self._table + '.weight'!r}: copy it again"
            ) from error

    def get_output_embeddings(self) -> None:
        """Knows no head with a row for each token."""

    def resize_token_embeddings(self, rows: int, mean_resizing: bool) -> None:
        """Makes room for `rows` tokens: the first of them as they are."""
        table = self.get_submodule(self._table)
        assert isinstance(table, nn.Embedding)
        whole = torch.zeros(rows, table.embedding_dim)
        kept = min(rows, table.num_embeddings)
        whole[:kept] = table.weight[:kept]
        table.weight, table.num_embeddings = nn.Parameter(whole, requires_grad=False), rows


def _layer(path: str, weight: Tensor | None) -> nn.Module:
    if weight is None or weight.ndim != 2:
        return nn.Module()
    rows, columns = weight.shape
    if path.endswith(_TABLES):
        return nn.Embedding(rows, columns, device="meta")
    return nn.Linear(columns, rows, bias=False, device="meta")
