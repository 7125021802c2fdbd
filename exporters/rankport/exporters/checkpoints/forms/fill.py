"""Puts stored tensors into a skeleton, by name and strictly: nothing is missing, left over or of another shape."""

import re
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.config.heads import COLBERT, PROJECTION, head_name
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head
from rankport.protos.errors import CheckpointError

_BUFFERS = (".attn.bias", ".attention.bias", ".causal_mask", "position_ids")
"""Masks and counts that old versions of transformers stored among the weights."""
_SCALES = ("_scale", "_scale_inv", ".absmax")
_LAYER_SCALES = ("SCB", "scale", "scales")


def fill(
    model: nn.Module, folder: CheckpointFolder, head: Head, taken: Collection[str] = frozenset()
) -> nn.Module:
    """Fills every parameter and persistent buffer in fp32, then ties what the config ties.

    `taken` are stored tensors that the form's loader has used already, such as the codes of quantized layers.

    Raises CheckpointError naming the tensor: missing, left over, of another shape, or not finite.
    """
    places = _places(model)
    filled: set[str] = set()
    tied = dict(getattr(model, "all_tied_weights_keys", {}) or {})
    for name in folder.tensors:
        if name in taken:
            continue
        place = local_name(model, places, name)
        if place is None:
            _require_ignorable(model, folder, name, head)
        elif place not in tied:
            _put(model, place, _sound(folder, name, tuple(places[place].shape)))
            filled.add(place)
    model.tie_weights()  # type: ignore[operator]
    for place in tied:
        _require_equal_twin(model, folder, place, taken)
    missing = sorted(places.keys() - filled - tied.keys() - folder.brought)
    require_brought(folder, missing)
    if missing:
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} lacks tensor {missing[0]!r} ({len(missing)} missing in all): copy it "
            "again"
        )
    return model


def require_brought(folder: CheckpointFolder, missing: Sequence[str]) -> None:
    """Raises CheckpointError for a tensor that neither a base nor the adapter that brings its head holds."""
    if missing and folder.brought:
        raise CheckpointError(
            f"base {str(folder.path)!r} lacks tensor {missing[0]!r} ({len(missing)} missing in all), and the adapter "
            f"that brings a head too: save the adapter with {missing[0].partition('.')[0]!r} in modules_to_save, or "
            "merge it where it was trained"
        )


def head_left(folder: CheckpointFolder, head: Head) -> Head:
    """Tells the head whose stored tensors must have a place: none where an adapter brings its own."""
    return "none" if folder.brought else head


def is_decoders(model: nn.Module, name: str) -> bool:
    """Tells whether a stored tensor is of the decoder that the encoder of an encoder-decoder leaves behind."""
    return type(model).__name__.endswith("EncoderModel") and _inner_name(model, name).startswith("decoder.")


def _inner_name(model: nn.Module, name: str) -> str:
    return name.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def local_name(model: nn.Module, places: Collection[str], name: str) -> str | None:
    """Says where a stored tensor goes: bodies are stored with and without the prefix of the model around them."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for candidate in (name, _inner_name(model, name), prefix + name):
        if candidate in places:
            return candidate
    return None


def require_finite(name: str, tensor: Tensor) -> None:
    """Raises CheckpointError for NaN or infinity. A sum finds both without a copy of the tensor."""
    if tensor.is_floating_point() and not torch.isfinite(tensor.float().sum(dtype=torch.float64)):
        raise CheckpointError(f"tensor {name!r} holds NaN or infinity: the checkpoint is damaged")


def _places(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, tied ones under each of their names."""
    return model.state_dict(keep_vars=True)


def _sound(folder: CheckpointFolder, name: str, shape: tuple[int, ...]) -> Tensor:
    stored_shape = folder.tensors.shape(name)
    if stored_shape != shape:
        labels = head_name(name) in ("classifier", "score") and stored_shape[1:] == shape[1:]
        fix = f"set num_labels to {stored_shape[0]} in config.json" if labels else "correct the config"
        raise CheckpointError(
            f"tensor {name!r} has shape {list(stored_shape)}, the config expects {list(shape)}: {fix}, or copy the "
            "checkpoint again"
        )
    require_full_precision(folder, name)
    stored = folder.tensors.read(name)
    require_finite(name, stored)
    return stored.to(torch.float32) if stored.is_floating_point() else stored


def require_full_precision(folder: CheckpointFolder, name: str) -> None:
    """Raises CheckpointError for a weight that is stored in 8 bits or less: without its scale it is another number."""
    dtype = folder.tensors.dtype(name)
    if dtype.itemsize > 1 or dtype == torch.bool or name.endswith(_BUFFERS):
        return
    layer = name.rpartition(".")[0]
    siblings = (*(f"{name}{end}" for end in _SCALES), *(f"{layer}.{leaf}" for leaf in _LAYER_SCALES))
    beside = next((sibling for sibling in siblings if sibling in folder.tensors), None)
    scale = "nothing says its scale" if beside is None else f"{beside!r} beside it is its scale"
    raise CheckpointError(
        f"tensor {name!r} is stored as {str(dtype).removeprefix('torch.')} and {scale}: its quantization_config is "
        "missing in config.json or is not one that is supported for this layer; export the original in full precision, "
        "with --quantize if low bits are wanted"
    )


def _put(model: nn.Module, place: str, value: Tensor) -> None:
    owner, _, leaf = place.rpartition(".")
    module = model.get_submodule(owner)
    if leaf in module._parameters:
        # Set, not swapped: a recurrent module lists its parameters a second time.
        setattr(module, leaf, nn.Parameter(value, requires_grad=False))
    else:
        module._buffers[leaf] = value


def _require_ignorable(model: nn.Module, folder: CheckpointFolder, name: str, head: Head) -> None:
    known = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    computed = name.endswith(("rotary_emb.inv_freq", "position_ids"))
    if not computed and not any(re.search(pattern, name) for pattern in known):
        require_head(folder, name, head)


def is_projection(folder: CheckpointFolder, name: str) -> bool:
    """Tells whether a stored tensor is the projection of Stanford's ColBERT, which lies beside those of the body."""
    return name == PROJECTION and COLBERT in (folder.raw.get("architectures") or ())


def require_head(folder: CheckpointFolder, name: str, head: Head) -> None:
    """Raises CheckpointError for a stored tensor without a place, unless a bare body leaves a head's tensor behind."""
    known = head_name(name) is not None or is_projection(folder, name)
    if head_left(folder, head) != "none" or not known:
        raise CheckpointError(
            f"the checkpoint holds tensor {name!r}, which its config has no place for: the model would run without it"
            f"{_scale_why(name)}"
        )


def _scale_why(name: str) -> str:
    leaf = name.rpartition(".")[2]
    quantized = "scale" in leaf or leaf in ("SCB", "absmax", "quant_map", "qzeros", "g_idx")
    return (
        "; it belongs to quantized weights: config.json needs the quantization_config that they were written with, or "
        "export the original in full precision"
        if quantized
        else ""
    )


def _require_equal_twin(
    model: nn.Module, folder: CheckpointFolder, place: str, taken: Collection[str]
) -> None:
    stored = next(
        (name for name in folder.tensors if name not in taken and local_name(model, {place}, name) == place),
        None,
    )
    if stored is None:
        return
    kept = model.get_parameter(place)
    twin = folder.tensors.read(stored)
    if twin.shape != kept.shape or not torch.equal(twin.to(torch.float32), kept):
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} ties {place!r} to the embeddings and holds a different head beside them: "
            "remove the stray tensor, or set tie_word_embeddings to false"
        )
