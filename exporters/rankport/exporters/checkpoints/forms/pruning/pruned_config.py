"""The config.json of a pruned checkpoint, put right by its tensors before a model is built of it.

Owns numbers that all layers share: how many layers there are, the width of a head. Widths of single layers are
`pruned`'s.
"""

import dataclasses
import re
from collections.abc import Iterable
from contextlib import suppress

import transformers

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, parse_config
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.protos.errors import CheckpointError

PER_LAYER = "per_layer_config"
_FITTED_PER_LAYER = ("intermediate_size", "num_attention_heads", "num_key_value_heads")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def require_layers(folder: CheckpointFolder, head: Head) -> None:
    """Raises CheckpointError if config.json counts more layers than are stored.

    Does nothing where the family counts otherwise, as those do that run their layers several times (HRM, Dory).
    """
    stated = folder.raw.get("num_hidden_layers")
    stored = _numbers(folder.tensors)
    if not isinstance(stated, int) or not stored or stored >= set(range(stated)):
        return
    with suppress(CheckpointError):
        if _numbers(skeleton(parse_config(folder), head).state_dict()) == stored:
            return
    if stored == set(range(len(stored))):
        raise CheckpointError(
            f"config.json says num_hidden_layers {stated} and the tensors hold {len(stored)} layers: set it to "
            f"{len(stored)} if layers were dropped, else the checkpoint is incomplete"
        )
    first = min(set(range(stated)) - stored)
    raise CheckpointError(
        f"config.json says num_hidden_layers {stated} and the tensors hold {len(stored)} layers up to number "
        f"{max(stored)}, number {first} not among them: number the kept layers from 0 on and set num_hidden_layers "
        f"to {len(stored)} if layers were dropped, else the checkpoint is incomplete"
    )


def _numbers(tensors: Iterable[str]) -> set[int]:
    """Reads the numbers of layers off the names of tensors."""
    return {int(match[1]) for name in tensors if (match := _LAYER.search(name))}


def by_tensors(folder: CheckpointFolder) -> tuple[CheckpointFolder, list[str]]:
    """Gives the folder the config that its tensors show; says what differs from config.json, in words.

    Raises CheckpointError if the tensors leave the width of a head open.
    """
    raw, notes = dict(folder.raw), []
    layers, types = raw.get("num_hidden_layers"), raw.get("layer_types")
    # Left over from before layers were dropped; which ones were is known only if all are alike.
    if isinstance(types, list) and isinstance(layers, int) and len(types) > layers and len(set(types)) == 1:
        raw["layer_types"] = types[:layers]
        notes.append(f"config.json lists {len(types)} layer_types for {layers} layers, all alike")
    head_dim = _head_dim(folder)
    if head_dim is not None:
        raw["head_dim"] = head_dim
        notes.append(f"heads are {head_dim} wide, read off the tensors: config.json states no head_dim")
    return dataclasses.replace(folder, raw=raw), notes


def without_per_layer(folder: CheckpointFolder) -> tuple[CheckpointFolder, dict[int, dict[str, int]]]:
    """Takes the per-layer config out of the folder; gives it by layer, for models that know one width only.

    Raises CheckpointError naming a field that is no width.
    """
    raw = dict(folder.raw)
    stated = raw.pop(PER_LAYER)
    if not isinstance(stated, dict) or not all(isinstance(fields, dict) for fields in stated.values()):
        raise CheckpointError(f"config.json: {PER_LAYER} must be an object of objects, by layer")
    by_layer = {int(layer): {k: v for k, v in fields.items() if v != []} for layer, fields in stated.items()}
    for layer, fields in by_layer.items():
        for name, value in fields.items():
            if name not in _FITTED_PER_LAYER:
                raise CheckpointError(
                    f"config.json: {PER_LAYER} of layer {layer} sets {name}, and transformers' {raw.get('model_type')} "
                    f"has it once for all layers: only {', '.join(_FITTED_PER_LAYER)} may differ"
                )
            raw.setdefault(name, value)
    return dataclasses.replace(folder, raw=raw), by_layer


def parse_pruned(folder: CheckpointFolder) -> transformers.PreTrainedConfig:
    """Parses as `parse_config`, also where heads * head_dim is not the hidden size: some families refuse that."""
    raw = folder.raw
    heads, hidden = raw.get("num_attention_heads"), raw.get("hidden_size")
    divides = not isinstance(heads, int) or not isinstance(hidden, int) or not heads or hidden % heads == 0
    if divides or not raw.get("head_dim"):
        return parse_config(folder)
    kv_heads = raw.get("num_key_value_heads") or heads
    config = parse_config(
        dataclasses.replace(folder, raw=raw | {"num_attention_heads": 1, "num_key_value_heads": 1})
    )
    config.num_attention_heads, config.num_key_value_heads = heads, kv_heads
    return config


def _head_dim(folder: CheckpointFolder) -> int | None:
    """Finds the width of a head that config.json leaves out and would be derived wrongly; None where it is right."""
    raw, tensors = folder.raw, folder.tensors
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    kv_heads = raw.get("num_key_value_heads") or heads
    queries, keys = (
        [tensors.shape(name)[0] for name in tensors if name.endswith(f"self_attn.{proj}.weight")]
        for proj in ("q_proj", "k_proj")
    )
    if raw.get("head_dim") or PER_LAYER in raw or not (queries and keys):
        return None
    if not isinstance(hidden, int) or not isinstance(heads, int) or not isinstance(kv_heads, int):
        return None
    derived = _derived(folder)
    if derived is not None and (heads * derived, kv_heads * derived) in zip(queries, keys, strict=False):
        return None  # at least one layer is as wide as config.json has it
    norms = {tensors.shape(name) for name in tensors if name.endswith("self_attn.q_norm.weight")}
    if norms and min(norms)[0] < min(queries):
        return min(norms)[0]  # one norm for each head
    counted = queries[0] // heads
    readings = [derived] if derived is not None and _fits(derived, queries, keys) else []
    if {counted * heads} == set(queries) and {counted * kv_heads} == set(keys):
        readings.append(counted)
    if len(readings) != 1:
        either = f" ({' or '.join(map(str, readings))} would fit)" if readings else ""
        raise CheckpointError(
            f"config.json states no head_dim, and q_proj of {min(queries)} and k_proj of {min(keys)} rows are not what "
            f"its heads make of hidden_size{either}: add the head_dim of the model that was pruned"
        )
    return counted if readings == [counted] else None


def _derived(folder: CheckpointFolder) -> int | None:
    """Derives what the model's code would take for head_dim, if it takes the config at all."""
    try:
        config = parse_config(folder)
    except CheckpointError:
        return None
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(width)


def _fits(head_dim: int, queries: Iterable[int], keys: Iterable[int]) -> bool:
    return all(q % k == 0 and k % head_dim == 0 for q, k in zip(queries, keys, strict=False))
