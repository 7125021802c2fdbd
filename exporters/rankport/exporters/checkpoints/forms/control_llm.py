"""Checkpoints that Control LLM expanded (arXiv 2501.10979): stacked, concatenated or both.

Stacked layers are layers like any other; the checkpoint keeps its original names, and transformers loads it. Pairs of
layers are built into the original family's model and filled by name, in full precision or compressed-tensors.
"""

import dataclasses

from torch import nn

from rankport.exporters.checkpoints.expansion.build import expand
from rankport.exporters.checkpoints.expansion.facts import Expansion
from rankport.exporters.checkpoints.expansion.family import EXPANDED_TYPE, original_config
from rankport.exporters.checkpoints.expansion.merges import MERGES
from rankport.exporters.checkpoints.forms import plain
from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.made_tensors import with_made
from rankport.exporters.checkpoints.forms.quantized import compressed_tensors
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.forms.stored_experts import ExpertNames, with_stacked_experts
from rankport.protos.errors import CheckpointError


def matches(folder: CheckpointFolder) -> bool:
    """Takes a model expanded by pairs, or a full-precision model of another type that says how it was expanded."""
    stated = folder.raw.get("expansion")
    stacked = isinstance(stated, dict) and "expand_type" in stated and folder.quantization_method is None
    return _has_expanded_type(folder) or stacked


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the field or tensor at fault."""
    expansion = Expansion.of(folder.raw)
    if folder.quantization_method not in (None, compressed_tensors.METHOD):
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} of an expanded model is not supported, "
            f"{compressed_tensors.METHOD!r} is: export the model in full precision, with --quantize if low bits are "
            "wanted"
        )
    expanded = _has_expanded_type(folder)
    raw = original_config(folder.raw) if expanded else folder.raw
    config = parse_config(dataclasses.replace(folder, raw=raw))
    pairs = expansion.paired_layers(int(config.num_hidden_layers), folder.tensors)
    if not expanded:
        return _load_stacked(folder, head, pairs)
    model = skeleton(config, head)
    expand(model, pairs, expansion)
    method = MERGES[expansion.merge_method]
    unread = [name for name in folder.tensors if any(f".{layer}." in name for layer in method.unread)]
    folder = with_made(folder, {}, without=unread)
    _require_places(model, folder)
    if folder.quantization_method is None:
        loaded = LoadedModel(fill(model, with_stacked_experts(folder, model), head))
    else:
        loaded = compressed_tensors.load(folder, head, model)
    said = f"Control LLM: {expansion.expand_type}, {expansion.merge_method}, pairs of layers {list(pairs)}"
    notes = (said, method.note) if method.note and pairs else (said,)
    return dataclasses.replace(loaded, notes=(*notes, *loaded.notes))


def _require_places(model: nn.Module, folder: CheckpointFolder) -> None:
    """Checks that a layer's tensors all have a place, in a body without head too, where `fill` passes over the rest."""
    names = ExpertNames(model)
    low_bits = (
        set() if folder.quantization_method is None else set(compressed_tensors.quantized_layers(folder))
    )
    for name in folder.tensors:
        in_layer = "layers." in name and not name.endswith("rotary_emb.inv_freq")
        known = name.rpartition(".")[0] in low_bits or names.place(name) or names.renamed(name)
        if in_layer and not known:
            raise CheckpointError(
                f"the checkpoint holds tensor {name!r}, which config.json: expansion has no place for: correct "
                "merge_method, interpolation_factor or interpolation_norm_alpha, or copy the checkpoint again"
            )


def _load_stacked(folder: CheckpointFolder, head: Head, pairs: tuple[int, ...]) -> LoadedModel:
    if pairs:
        raise CheckpointError(
            f"config.json: model_type is {folder.raw.get('model_type')!r}, and layers {list(pairs)} are stored as "
            f"pairs: Control LLM writes {EXPANDED_TYPE!r} then"
        )
    return plain.load(folder, head)


def _has_expanded_type(folder: CheckpointFolder) -> bool:
    return folder.raw.get("model_type") == EXPANDED_TYPE
