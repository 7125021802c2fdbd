"""Checkpoints of full-precision tensors, by transformers' own loader; pruned ones by the widths of their tensors."""

from collections import Counter
from typing import Any

import torch
import transformers
from torch import nn

from rankport.exporters.checkpoints.forms.fill import (
    is_decoders,
    require_brought,
    require_full_precision,
    require_head,
)
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.pruning import pruned
from rankport.exporters.checkpoints.forms.skeleton import building, model_class, token_table
from rankport.exporters.checkpoints.forms.text_part import left_out, tower_of
from rankport.protos.errors import CheckpointError


def matches(folder: CheckpointFolder) -> bool:
    """Takes any checkpoint without a quantization."""
    return folder.quantization_method is None


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    fitted = pruned.load(folder, head)
    return fitted or _from_pretrained(folder, parse_config(folder), head)


def _from_pretrained(
    folder: CheckpointFolder, config: transformers.PreTrainedConfig, head: Head
) -> LoadedModel:
    for name in folder.tensors:
        require_full_precision(folder, name)
    try:
        with building(config):
            model, info = model_class(config, head).from_pretrained(  # type: ignore[attr-defined]
                folder.path,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except CheckpointError:
        raise
    except Exception as error:  # transformers, safetensors and the model's code raise whatever they like
        raise CheckpointError(
            f"cannot load checkpoint {str(folder.path)!r}: {type(error).__name__}: {error}"
        ) from error
    unexpected = {name for name in info["unexpected_keys"] if not is_decoders(model, name)}
    towers = Counter[str]()
    if type(model.config) is not type(
        config
    ):  # of a model that sees or hears the class of its text part alone
        of_towers = {name: tower for name in unexpected if (tower := tower_of(name)) is not None}
        unexpected, towers = unexpected - of_towers.keys(), Counter(of_towers.values())
    _require_complete(folder, info | {"unexpected_keys": unexpected}, head)
    _require_sound_weights(model, folder)
    return LoadedModel(model.eval().requires_grad_(False), notes=left_out(dict(sorted(towers.items()))))


def _require_complete(folder: CheckpointFolder, info: dict[str, Any], head: Head) -> None:
    # transformers fills absent tensors with random numbers; a release must not.
    absent = set(info["missing_keys"]) - folder.brought
    missing = sorted(key for key in absent if not (head == "none" and ".pooler." in f".{key}"))
    require_brought(folder, missing)
    if missing:
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} lacks tensor {missing[0]!r} ({len(missing)} missing in all): "
            f"{_missing_why(folder, missing[0])}"
        )
    for name in sorted(info["unexpected_keys"]):
        require_head(folder, name, head)
    if info["mismatched_keys"]:
        name, *shapes = sorted(info["mismatched_keys"])[0]
        stored, expected = (list(shape) for shape in shapes)
        raise CheckpointError(
            f"tensor {name!r} has shape {stored}, config.json expects {expected}: correct the config's widths, or copy "
            "the checkpoint again"
        )


def _missing_why(folder: CheckpointFolder, name: str) -> str:
    packed = [f"{name.removesuffix('weight')}{leaf}" for leaf in ("qweight", "weight_packed", "weight_scale")]
    beside = next((sibling for sibling in packed if sibling in folder.tensors), None)
    if beside is None:
        return "copy the checkpoint again, or save it anew with save_pretrained"
    return f"it holds {beside!r}, so it is quantized: config.json needs its quantization_config"


def _require_sound_weights(model: nn.Module, folder: CheckpointFolder) -> None:
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor.sum(dtype=torch.float64)):
            raise CheckpointError(
                f"checkpoint {str(folder.path)!r}: tensor {name!r} holds NaN or infinity: it is damaged"
            )
    head, table = model.get_output_embeddings(), token_table(model)  # type: ignore[operator]
    # transformers says of any T5 that it is tied, and ties none that is stored with a head of its own.
    stored_apart = model.config.is_encoder_decoder  # type: ignore[union-attr]
    if (
        not stored_apart
        and getattr(model, "_tied_weights_keys", None)  # else the class ties nothing, whatever is said
        and head is not None
        and getattr(model.config, "tie_word_embeddings", False)
        and head.weight is not table.weight
    ):
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} ties its LM head to the embeddings and holds a different head beside "
            "them: remove the stray tensor, or set tie_word_embeddings to false"
        )
