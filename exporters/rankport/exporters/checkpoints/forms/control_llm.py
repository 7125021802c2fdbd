"""Checkpoints that Control LLM expanded (arXiv 2501.10979): stacked, concatenated or both.

Stacked layers are layers like any other; the checkpoint keeps its original names, and transformers loads it. Pairs of
layers are built into the original family's model and filled by name.
"""

import dataclasses

from torch import nn

from rankport.exporters.checkpoints.expansion.build import expand
from rankport.exporters.checkpoints.expansion.facts import Expansion
from rankport.exporters.checkpoints.expansion.family import EXPANDED_TYPE, original_config
from rankport.exporters.checkpoints.expansion.merges import MERGES
from rankport.exporters.checkpoints.forms import plain
from rankport.exporters.checkpoints.forms.fill import fill, local_name
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.forms.stored_experts import with_stacked_experts
from rankport.protos.errors import CheckpointError


def matches(folder: CheckpointFolder) -> bool:
    """Takes a model expanded by pairs, or a full-precision model of another type that says how it was expanded."""
    stated = folder.raw.get("expansion")
    stacked = isinstance(stated, dict) and "expand_type" in stated and folder.quantization_method is None
    return _has_expanded_type(folder) or stacked


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the field or tensor at fault."""
    expansion = Expansion.of(folder.raw)
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} of an expanded model is not supported: "
            "export the model in full precision, with --quantize if low bits are wanted"
        )
    expanded = _has_expanded_type(folder)
    raw = original_config(folder.raw) if expanded else folder.raw
    config = parse_config(dataclasses.replace(folder, raw=raw))
    pairs = expansion.paired_layers(int(config.num_hidden_layers), folder.tensors)
    if not expanded:
        return _load_stacked(folder, head, pairs)
    model = skeleton(config, head)
    expand(model, pairs, expansion)
    folder = with_stacked_experts(folder, model)
    method = MERGES[expansion.merge_method]
    unread = {
        name for name in folder.tensors if name.endswith(tuple(f".{suffix}" for suffix in method.unread))
    }
    _require_places(model, folder, unread)
    fill(model, folder, head, taken=unread)
    said = f"Control LLM: {expansion.expand_type}, {expansion.merge_method}, pairs of layers {list(pairs)}"
    return LoadedModel(model, notes=(said, method.note) if method.note and pairs else (said,))


def _require_places(model: nn.Module, folder: CheckpointFolder, unread: set[str]) -> None:
    """Checks that a layer's tensors all have a place, in a body without head too, where `fill` passes over the rest."""
    places = model.state_dict(keep_vars=True)
    for name in folder.tensors:
        in_layer = "layers." in name and not name.endswith("rotary_emb.inv_freq")
        if in_layer and name not in unread and local_name(model, places, name) is None:
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
