"""`quantization_config` of GPTQ checkpoints: how layers are stored, by rules where they differ.

Rules are those of GPT-QModel's `dynamic` (quantization/config.py, 7.7): regular expressions from the start of a layer's
name, the first that matches counts, and those that begin with `-` before all others. What no rule states is as the
config says.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from rankport.exporters.checkpoints.forms.quantized.low_bit import FULL_PRECISION
from rankport.exporters.checkpoints.forms.quantized.stated import refuse_slips, stated_bool
from rankport.protos.errors import CheckpointError

FIELD = "quantization_config"
LESS_ONE, AS_IT_IS = "gptq", "gptq_v2"
_BITS = (2, 3, 4, 8)
_SCHEME = ("bits", "group_size", "sym", "desc_act", "pack_dtype")
_READ = frozenset({*_SCHEME, "checkpoint_format", "dynamic"})
_ABSENT = ("activation", "rotation", "adapter")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of `dynamic`."""

    field: str  # its path in quantization_config
    pattern: re.Pattern[str]
    stated: dict[str, Any] | None  # None: leaves layers in full precision

    @classmethod
    def of(cls, rule: str, stated: Any) -> "Rule":
        """Raises CheckpointError naming the rule."""
        field = f"dynamic.{rule}"
        leaves_out = rule.startswith("-")
        try:
            pattern = re.compile(rule.removeprefix("-:" if leaves_out else "+:"))
        except re.error as error:
            raise CheckpointError(
                f"config.json: {FIELD}.dynamic holds {rule!r}, no regular expression: {error}"
            ) from error
        if leaves_out:
            return cls(field, pattern, None)
        _require(isinstance(stated, dict), field, stated, "an object")
        refuse_slips(stated, _READ)
        return cls(field, pattern, stated)


@dataclass(frozen=True, slots=True)
class GptqConfig:
    """`quantization_config` of a GPTQ checkpoint."""

    bits: int  # 2, 3, 4 or 8
    group_size: int  # -1: a scale an output channel
    desc_act: bool
    sym: bool
    format: str  # "gptq" | "gptq_v2"
    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "GptqConfig":
        """Raises CheckpointError naming the field and its value, and what to do."""
        refuse_slips(raw, _READ)
        form = raw.get("checkpoint_format", raw.get("format")) or LESS_ONE
        if raw.get("is_marlin_format"):
            form = "marlin"
        _require(form in (LESS_ONE, AS_IT_IS), "checkpoint_format", form, "'gptq' or 'gptq_v2'")
        rules = raw.get("dynamic") or {}
        _require(isinstance(rules, dict), "dynamic", rules, "an object of rules")
        read = [Rule.of(rule, stated) for rule, stated in rules.items()]
        read.sort(key=lambda rule: rule.stated is not None)
        return replace(_scheme(raw, form), rules=tuple(read))

    def of_layer(self, name: str) -> "GptqConfig":
        """Gives the scheme of a layer of codes. Raises CheckpointError where a rule leaves it in full precision."""
        rule = next((rule for rule in self.rules if rule.pattern.match(name)), None)
        if rule is None:
            return self
        if rule.stated is None:
            raise CheckpointError(
                f"layer {name!r} is stored in codes, and config.json: {FIELD}.{rule.field} leaves it in full "
                "precision: copy the checkpoint again"
            )
        whole = {key: getattr(self, key) for key in ("bits", "group_size", "sym", "desc_act")}
        return _scheme(whole | rule.stated, self.format, f"{rule.field}.")


def _scheme(stated: dict[str, Any], form: str, where: str = "") -> GptqConfig:
    _require(
        type(stated.get("bits")) is int and stated["bits"] in _BITS,
        f"{where}bits",
        stated.get("bits"),
        "2, 3, 4 or 8",
    )
    size = stated.get("group_size", 128)
    _require(type(size) is int and (size == -1 or size > 0), f"{where}group_size", size, "-1 or above 0")
    pack = stated.get("pack_dtype", "int32")
    _require(pack == "int32", f"{where}pack_dtype", pack, "'int32'")
    for key in _ABSENT:
        _require(not stated.get(key), f"{where}{key}", stated.get(key), "null")
    field = f"{FIELD}.{where}".rstrip(".")
    desc_act, sym = stated_bool(stated, "desc_act", False, field), stated_bool(stated, "sym", True, field)
    return GptqConfig(stated["bits"], size, desc_act, sym, form)


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise CheckpointError(
            f"config.json: {FIELD}.{key} is {value!r}, supported is {expected}: {FULL_PRECISION}"
        )
