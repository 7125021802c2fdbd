"""Fields of config.json: each is honoured by transformers' config or model, is known to change nothing, or is refused.

transformers keeps a field that it does not know as an attribute that nothing reads: a misspelled name, or a feature
that this version does not have, is lost in silence. So is one that a family's config declares and its model does not
read. Owns that check. Which fields are harmless, `harmless` lists; what code reads, `read_names` finds.
"""

import dataclasses
import difflib
from collections.abc import Iterator
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import transformers
from transformers import PreTrainedConfig

from rankport.exporters.checkpoints.config.harmless import (
    LEFT_ASIDE,
    PASSED_OVER,
    harmless_values,
    is_harmless,
)
from rankport.exporters.checkpoints.config.read_names import (
    named_by_rope,
    named_in_code,
    read_by_model,
    read_by_rope,
    taken_by_config,
)
from rankport.protos.errors import CheckpointError

_ROPE = ("rope_parameters", "rope_scaling")
_UNREAD_ROPE = frozenset({"finetuned"})  # in YaRN's first checkpoints: a word on how they were trained
_OF_EVERY_ROPE = frozenset({"rope_type", "type", "rope_theta", "original_max_position_embeddings"})
# What YaRN has where nobody states it, which Hunyuan's files say beside another type; 1 says nothing of any name.
_SAYS_NOTHING = MappingProxyType({"beta_fast": 32, "mscale_all_dim": 0})
_OF_ALL = frozenset(field.name for field in dataclasses.fields(PreTrainedConfig))


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
        if known := _passed_over(field, value, config):
            raise CheckpointError(
                f"{where}: field {field!r} is {value!r:.60}, which {config.model_type} of transformers "
                f"{transformers.__version__} declares and its model passes over: it computes what "
                f"{' or '.join(map(repr, known))} would say. Say that, if the model was trained so; else it cannot be "
                "exported"
            )


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
        or field in read_by_model(own)
        or field in taken_by_config(own)
    )


def _passed_over(field: str, value: object, config: PreTrainedConfig) -> tuple[object, ...]:
    """Lists what a field would have to say where the family declares it and its model computes something else.

    A config around another declares words for what is not run here.
    """
    kind, known = type(config), PASSED_OVER.get((config.model_type, field))
    if not kind.__module__.startswith("transformers.") or _text_config(config) is not config:
        return ()
    if known is None and (field in LEFT_ASIDE or _is_read(field, kind)):
        return ()
    known = known or (_default_of(kind, field),)
    return () if value in known or is_harmless(field, value, config) else known


def _is_read(field: str, kind: type[PreTrainedConfig]) -> bool:
    """Tells whether code reads a field of the family's own, under any of its names."""
    declared = {each.name for each in dataclasses.fields(kind)}.difference(_OF_ALL, _ROPE)
    counts = kind.attribute_map.get(field, field)
    names = {counts, *(alias for alias, name in kind.attribute_map.items() if name == counts)}
    return not names & declared or bool(names & named_in_code(kind.__module__))


def _default_of(kind: type[PreTrainedConfig], field: str) -> object:
    """Finds what a config class begins with, as JSON has it."""
    default = next((each.default for each in dataclasses.fields(kind) if each.name == field), None)
    return list(default) if isinstance(default, tuple) else default


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
            known = named_by_rope(type(config).__module__)
            if isinstance(value, dict) or value is None or name in known | _UNREAD_ROPE:
                continue
            near = difflib.get_close_matches(name, sorted(named_by_rope("")), 1, 0.75)
            meant = f" (is {near[0]!r} meant?)" if near else ""
            raise CheckpointError(
                f"{where}: {field} has {name!r} {value!r:.40}, which {config.model_type} of transformers "
                f"{transformers.__version__} does not read{meant}: correct the name, or remove it if the model was "
                "trained without it"
            )
    for name, value, kind in _unread_by_kind(config):
        raise CheckpointError(
            f"{where}: rotary frequencies of the type {kind!r} have {name!r} {value!r:.40}, which {config.model_type} "
            f"of transformers {transformers.__version__} does not read for that type: correct the type, or remove "
            "it if the model was trained without it"
        )


def _unread_by_kind(config: PreTrainedConfig) -> Iterator[tuple[str, object, str]]:
    """Yields names of rotary parameters, as transformers took them, that frequencies of their kind do not depend on."""
    own, rope = type(config).__module__, getattr(config, "rope_parameters", None)
    if not own.startswith("transformers.") or not isinstance(rope, dict):
        return
    for part in (rope, *(part for part in rope.values() if isinstance(part, dict))):
        kind = part.get("rope_type", "default")
        read = read_by_rope(kind, own)
        if read is None:
            continue
        for name, value in part.items():
            changes = not isinstance(value, dict) and value not in (None, 1, _SAYS_NOTHING.get(name))
            if changes and name not in read | _OF_EVERY_ROPE | _UNREAD_ROPE:
                yield name, value, kind
