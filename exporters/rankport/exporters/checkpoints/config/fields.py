"""Fields of config.json: each is honoured by transformers' config or model, is known to change nothing, or is refused.

transformers keeps a field that it does not know as an attribute that nothing reads: a misspelled name, or a feature
that this version does not have, is lost in silence. Owns that check. Which fields are harmless, `harmless` lists.
"""

import dataclasses
import difflib
import importlib.util
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from rankport.exporters.checkpoints.config.harmless import harmless_values, is_harmless
from rankport.protos.errors import CheckpointError

# `config.field`, `getattr(config, "field"`, whatever the config is called.
_READ = re.compile(r"""config\w*(?:\.get_text_config\([^)]*\))?(?:\.|\s*,\s*["'])([a-zA-Z_]\w*)""")
_SHARED_READERS = ("modeling_layers", "modeling_rope_utils")
_ROPE = ("rope_parameters", "rope_scaling")
_UNREAD_ROPE = frozenset({"finetuned"})  # in YaRN's first checkpoints: a word on how they were trained
# `kwargs.get("field"` in a config: a name of earlier releases that another field is made of.
_TAKEN = re.compile(r"""kwargs\.(?:get|pop)\(\s*["']([a-zA-Z_]\w*)["']""")
_QUOTED = re.compile(r"""["']([a-zA-Z_]\w*)["']""")


def require_known_fields(
    raw: dict[str, Any],
    config: PreTrainedConfig,
    where: str = "config.json",
    also: frozenset[str] = frozenset(),
) -> None:
    """Checks every field of a config file against the config made of it, and of configs inside.

    `also` are fields that a config around this one sets.

    Raises CheckpointError naming the field, with the one that may have been meant; and for one that is said twice,
    in two ways.
    """
    _require_one_rope(raw, where)
    _require_known_rope(raw, config, where)
    names = _declared(type(config)) | also
    for field, value in raw.items():
        inner = getattr(config, field, None) if isinstance(value, dict) else None
        if isinstance(inner, PreTrainedConfig):
            if inner is _text_config(config):
                own = _without_outer(value, config)
                require_known_fields(own, inner, f"{where}: {field}", _set_inside(type(config), field))
            continue
        _require_same_under_alias(raw, config, field, where)
        if not (
            is_harmless(field, value, config)
            or _is_honoured(field, config, names)
            or _is_off(field, value, names)
        ):
            raise CheckpointError(f"{where}: {_unknown(field, value, config, names)}")


def _without_outer(inner: dict[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """Leaves out of a config inside what the one around it says too, and acts by."""
    tied = getattr(config, "tie_word_embeddings", None)
    return {name: value for name, value in inner.items() if name != "tie_word_embeddings" or value != tied}


def _text_config(config: PreTrainedConfig) -> PreTrainedConfig | None:
    try:
        return config.get_text_config()
    except ValueError:  # it has several, none of which is run here
        return None


def _is_honoured(field: str, config: PreTrainedConfig, names: frozenset[str]) -> bool:
    # A field that is no attribute was taken in under another name: rope_theta, say.
    own = type(config).__module__
    return (
        field in names
        or field not in vars(config)
        or field in _read_by_model(own)
        or field in _taken_by_config(own)
    )


def _is_off(field: str, value: object, names: frozenset[str]) -> bool:
    """Tells whether a feature that is unknown is switched off; a name that is nearly a known one is a slip."""
    off = value is None or value is False or value in ("", [], {})
    return off and not difflib.get_close_matches(field, names, 1, 0.92)


def _unknown(field: str, value: object, config: PreTrainedConfig, names: frozenset[str]) -> str:
    shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."
    near = difflib.get_close_matches(field, sorted(names), 1, 0.75)
    meant = f" (is {near[0]!r} meant?)" if near else ""
    if one := harmless_values(field, config):
        meant = f" (it knows {' or '.join(map(repr, one))} only)"
    return (
        f"field {field!r} is {shown}, which {config.model_type} of transformers {transformers.__version__} does not "
        f"read{meant}: correct the name, or remove the field if the model was trained without it"
    )


def _declared(kind: type[PreTrainedConfig]) -> frozenset[str]:
    """Lists the fields of a config class, its other names for them, and what it sets by itself."""
    names = {field.name for field in dataclasses.fields(kind)} | set(kind.attribute_map)
    with suppress(Exception):  # some configs have no default
        names |= vars(kind()).keys()
    return frozenset(names)


def _set_inside(kind: type[PreTrainedConfig], field: str) -> frozenset[str]:
    """Lists the fields that a config class sets in a config inside."""
    with suppress(Exception):  # some configs have no default
        return frozenset(vars(getattr(kind(), field)))
    return frozenset()


@cache
def _read_by_model(config_module: str) -> frozenset[str]:
    """Lists the fields that the family's own model code reads of its config, declared or not."""
    own = config_module.replace(".configuration_", ".modeling_")
    modules = (own, *(f"transformers.{name}" for name in _SHARED_READERS))
    return frozenset(name for module in modules for name in _READ.findall(_source(module)))


@cache
def _taken_by_config(config_module: str) -> frozenset[str]:
    """Lists the fields that the family's own config makes others of: `global_attn_every_n_layers` of ModernBERT."""
    return frozenset(_TAKEN.findall(_source(config_module)))


def _source(module: str) -> str:
    """Reads a module's file without the import, which takes seconds for some families."""
    spec = importlib.util.find_spec(module)
    return "" if spec is None or spec.origin is None else Path(spec.origin).read_text(encoding="utf-8")


def _require_same_under_alias(raw: dict[str, Any], config: PreTrainedConfig, field: str, where: str) -> None:
    alias_of = config.attribute_map.get(field)
    if alias_of is not None and alias_of in raw and raw[alias_of] != raw[field]:
        raise CheckpointError(
            f"{where}: {field} is {raw[field]!r} and {alias_of} is {raw[alias_of]!r}, which are one field of "
            f"{config.model_type}: remove the wrong one"
        )


def _require_one_rope(raw: dict[str, Any], where: str) -> None:
    """Refuses rotary frequencies said twice in two ways: transformers takes one and drops the other."""
    new, old = (raw.get(name) for name in _ROPE)
    if isinstance(new, dict) and isinstance(old, dict) and new and old and not old.items() <= new.items():
        raise CheckpointError(
            f"{where}: rope_parameters is {new} and rope_scaling is {old}, of which only one counts: remove the other"
        )
    for field in ("rope_theta", "partial_rotary_factor"):
        inside = new.get(field) if isinstance(new, dict) else None
        if inside is not None and raw.get(field) is not None and raw[field] != inside:
            raise CheckpointError(
                f"{where}: {field} is {raw[field]} and {inside} in rope_parameters, of which the latter counts: "
                f"remove the wrong one"
            )


def _require_known_rope(raw: dict[str, Any], config: PreTrainedConfig, where: str) -> None:
    """Refuses a name in the rotary parameters, or in those of a kind of layer, that no code of transformers has."""
    for field in _ROPE:
        stated = raw.get(field)
        parts = [stated] if isinstance(stated, dict) else []
        parts += [part for part in parts[0].values() if isinstance(part, dict)] if parts else []
        for name, value in (pair for part in parts for pair in part.items()):
            known = _named_by_model(type(config).__module__)
            if isinstance(value, dict) or value is None or name in known | _UNREAD_ROPE:
                continue
            near = difflib.get_close_matches(name, sorted(_named_by_model("")), 1, 0.75)
            meant = f" (is {near[0]!r} meant?)" if near else ""
            raise CheckpointError(
                f"{where}: {field} has {name!r} {value!r:.40}, which {config.model_type} of transformers "
                f"{transformers.__version__} does not read{meant}: correct the name, or remove it if the model was "
                "trained without it"
            )


@cache
def _named_by_model(config_module: str) -> frozenset[str]:
    """Lists the names that the code of rotary embeddings has between quotes, and with a family its config and model."""
    own = (config_module, config_module.replace(".configuration_", ".modeling_")) if config_module else ()
    modules = ("transformers.modeling_rope_utils", *own)
    return frozenset(name for module in modules for name in _QUOTED.findall(_source(module)))
