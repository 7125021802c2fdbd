"""The word of adapter_config.json, judged: which LoRA it is, and which base it goes into.

Owns what is refused before a weight is read. How it is merged, `merge` knows.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankport.exporters.checkpoints.config.harmless import ANY_VALUE
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.config.own_code import own_code
from rankport.exporters.checkpoints.config.quantization_files import method_of, with_quantization
from rankport.exporters.checkpoints.forms.adapters import tokens_alone
from rankport.exporters.checkpoints.forms.folder import code_beside, require_checkpoint, stated_both_ways
from rankport.exporters.checkpoints.forms.stored_tensors import INDEX, WEIGHTS
from rankport.exporters.checkpoints.list_ranker.recipe import FILE as RECIPE
from rankport.protos.errors import CheckpointError, InvalidRequest

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Beginning of all names that peft stores."""
TRAINED = ".modules_to_save."  # in names of older versions
_WEIGHTLESS = (
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
)
_READ_IN_FULL = (
    None,
    "bitsandbytes",
    "mxfp4",
    "gptq",
    "hqq",
    "awq",
    "auto-round",
    "intel/auto-round",
    "compressed-tensors",
    "modelopt",
    "torchao",
)
"""Methods of a base that is read as the full precision that its codes stand for: what an adapter was trained over."""
_MERGE_YOURSELF = "merge it with peft's merge_and_unload() and export the result"
_LABELS = frozenset({"id2label", "label2id", "num_labels", "problem_type", "vocab_size"})
"""Fields of a config.json beside an adapter that may differ from the base's: they are read, or tensors show them."""
# Fields that make another model of the adapter than W + scaling * B A, each with what it does.
_REFUSED_FIELDS = {
    "alora_invocation_tokens": "switches the adapter on within a prompt, so no merged weight equals it",
    "arrow_config": "routes between adapters, so no merged weight equals it",
    "monteclora_config": "samples its weights, so no merged weight equals it",
    "layer_replication": f"repeats layers of the base: {_MERGE_YOURSELF}",
    "kasa_config": f"cuts singular values off the base: {_MERGE_YOURSELF}",
    "velora_config": f"is not supported: {_MERGE_YOURSELF}",
    "use_bdlora": f"is not supported: {_MERGE_YOURSELF}",
    "use_qalora": f"is not supported: {_MERGE_YOURSELF}",
    "megatron_config": f"is not supported: {_MERGE_YOURSELF}",
}
# peft takes any text for true.
_WORDS = ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias", "ensure_weight_tying")
# These leave the base's weights as they are; the others (pissa, olora, corda, loftq, ...) subtract the initial product.
_NEUTRAL_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A LoRA that can be merged exactly."""

    raw: dict[str, Any]  # known fields of adapter_config.json, as a LoRA's
    type: str  # "LORA", or of rows of tables alone `tokens_alone.TYPE`, whose rank and alpha are 0
    rank: int
    alpha: float
    target_modules: tuple[str, ...]  # names, or one regular expression, and names of parameters (of experts)
    modules_to_save: tuple[str, ...]  # trained in full and stored whole
    base: str | None  # base_model_name_or_path
    ties_adapters: bool  # ensure_weight_tying: the head was trained as the embeddings' twin

    @classmethod
    def read(cls, adapter: Path) -> "AdapterConfig":
        """Reads adapter_config.json. Raises CheckpointError naming the field that cannot be merged."""
        stated = read_json_object(adapter / ADAPTER_CONFIG)
        rows_alone = stated.get("peft_type") == tokens_alone.TYPE
        raw = tokens_alone.as_lora(stated)
        _require_lora(raw)
        _require_known_fields(raw)
        for name, reason in _REFUSED_FIELDS.items():
            if raw.get(name):
                raise CheckpointError(f"{ADAPTER_CONFIG}: {name} {reason}")
        for name in _WORDS:
            if not isinstance(raw.get(name), bool | None):
                raise CheckpointError(f"{ADAPTER_CONFIG}: {name} is {raw[name]!r:.60}, must be true or false")
        start = raw.get("init_lora_weights", True)
        if start not in _NEUTRAL_STARTS:
            raise CheckpointError(
                f"{ADAPTER_CONFIG}: init_lora_weights {start!r} changed the base's weights before training, and the "
                "adapter alone does not hold them: store it as plain LoRA with peft's "
                "save_pretrained(path_initial_model_for_weight_conversion=...), or merge it where it was trained"
            )
        return cls(
            raw=raw,
            type=tokens_alone.TYPE if rows_alone else "LORA",
            rank=0 if rows_alone else _number(raw, "r", 8),
            alpha=0 if rows_alone else _number(raw, "lora_alpha", 8),
            target_modules=_names(stated, "target_modules") + _names(raw, "target_parameters"),
            modules_to_save=saved_modules(raw),
            base=raw.get("base_model_name_or_path"),
            ties_adapters=bool(raw.get("ensure_weight_tying", False)),
        )

    @property
    def trained_tokens(self) -> dict[str, tuple[int, ...]]:
        """Rows trained alone, by module name; "" is the input embeddings."""
        stated = self.raw.get("trainable_token_indices") or {}
        by_module = stated if isinstance(stated, dict) else {"": stated}
        return {name: tuple(int(row) for row in rows) for name, rows in by_module.items()}


def plain_name(stored: str) -> str:
    """Gives the name that a tensor has in the model that was trained, of the one that peft stores it under."""
    return stored.removeprefix(PREFIX).replace(TRAINED, ".")


def is_adapter(folder: Path) -> bool:
    """Tells whether a folder holds an adapter instead of a model."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(adapter: Path, base: Path | None) -> Path:
    """Finds the folder of the base: `base` if given, else the one that adapter_config.json names, if it is here.

    Raises InvalidRequest if there is none, CheckpointError if an adapter cannot be merged into it.
    """
    _require_alone(adapter)
    named = read_json_object(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    folder = base if base is not None else Path(str(named or ""))
    if base is None and not (named and folder.is_dir()):
        raise InvalidRequest(
            f"checkpoint {str(adapter)!r} is an adapter of {named!r}, which is no folder here: give the folder of its "
            "base with --base"
        )
    require_checkpoint(folder)
    if is_adapter(folder):
        raise CheckpointError(f"base {str(folder)!r} is an adapter itself: merge it into its own base first")
    stated, _ = with_quantization(folder, read_json_object(folder / "config.json"))
    if method_of(stated) not in _READ_IN_FULL:
        raise CheckpointError(
            f"base {str(folder)!r} is quantized ({method_of(stated)}), and an adapter merges into full precision only: "
            "give the checkpoint that it was quantized from with --base"
        )
    return folder


def notes_of_base(adapter: Path, folder: Path) -> tuple[str, ...]:
    """Notes that an adapter goes into another base than the folder that it names, of weights stored otherwise."""
    stated = read_json_object(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    named = Path(str(stated or "?"))
    if not (named / "config.json").is_file() or named.resolve() == folder.resolve():
        return ()
    trained, given = (_stored_in(base) for base in (named, folder))
    if trained == given:
        return ()
    return (
        f"the adapter names base {named.name!r}, stored in {trained}, and is merged into {folder.name!r}, stored in "
        f"{given}: these are not the weights that it was trained over",
    )


def code_of_adapter(adapter: Path, base: Path) -> tuple[str, ...]:
    """Lists code that an adapter's folder asks for, in words, but for what its base asks for too."""
    own, below = _configs(adapter, base)
    code = own_code("config.json", own)
    return (() if set(code) <= set(own_code("config.json", below)) else code) + code_beside(adapter)


def notes_of_config(adapter: Path, base: Path) -> tuple[str, ...]:
    """Notes where a config.json beside an adapter differs from its base's, by which the model is made.

    Raises CheckpointError where it says that the model reads the other way.
    """
    own, below = _configs(adapter, base)
    if own and stated_both_ways(own) != stated_both_ways(below):
        ways = {True: "both ways", False: "from left to right"}
        raise CheckpointError(
            f"{adapter / 'config.json'} has the model read {ways[stated_both_ways(own)]}, and {base / 'config.json'}, "
            f"by which it is made, {ways[stated_both_ways(below)]}: have is_causal in both say what the adapter was "
            "trained with"
        )
    others = own.keys() & below.keys() - ANY_VALUE - _LABELS
    named = sorted(name for name in others if own[name] != below[name])
    if not named:
        return ()
    return (
        f"config.json beside the adapter is not read but the base's, which differs in {', '.join(named)}",
    )


def _configs(adapter: Path, base: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the config.json beside an adapter, of which there may be none, and the base's."""
    own = adapter / "config.json"
    return (read_json_object(own) if own.is_file() else {}), read_json_object(base / "config.json")


def _stored_in(base: Path) -> str:
    stated, _ = with_quantization(base, read_json_object(base / "config.json"))
    return method_of(stated) or "full precision"


def _require_alone(adapter: Path) -> None:
    whole = next((name for name in (WEIGHTS, INDEX) if (adapter / name).is_file()), None)
    if whole is not None:
        raise CheckpointError(
            f"checkpoint {str(adapter)!r} holds {whole} and {ADAPTER_CONFIG}: is it a whole model or an adapter? "
            f"Remove {ADAPTER_CONFIG} if its weights are merged, else put the adapter into a folder of its own"
        )
    if (adapter / RECIPE).is_file():
        raise CheckpointError(
            f"{adapter / RECIPE} lies beside an adapter, and none is merged into a list ranker here: merge it with "
            "peft's merge_and_unload(), save the result, and put the file beside its config.json"
        )


def _require_lora(raw: dict[str, Any]) -> None:
    kind = raw.get("peft_type")
    if kind == "LORA":
        return
    if kind in _WEIGHTLESS:
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: peft_type {kind!r} adds tokens or states of its own and no weights: it cannot be "
            "merged, train a LORA adapter instead"
        )
    raise CheckpointError(f"{ADAPTER_CONFIG}: peft_type {kind!r} is not LORA: {_MERGE_YOURSELF}")


def _require_known_fields(raw: dict[str, Any]) -> None:
    from peft import LoraConfig  # late: only adapters need it, and it takes seconds

    known = {field.name for field in dataclasses.fields(LoraConfig)}
    unknown = sorted(name for name, value in raw.items() if name not in known and value)
    if unknown:
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: field {unknown[0]!r} is unknown to the peft installed here (the adapter was written "
            f"by peft {raw.get('peft_version') or 'of no stated version'}): upgrade peft, or remove the field"
        )


def saved_modules(raw: dict[str, Any]) -> tuple[str, ...]:
    """Lists modules that are stored whole. Peft trains heads of labels whether or not the config says so."""
    heads = ("classifier", "score") if raw.get("task_type") in ("SEQ_CLS", "TOKEN_CLS") else ()
    return tuple(sorted({*_names(raw, "modules_to_save"), *heads}))


def _number(raw: dict[str, Any], name: str, default: int) -> int:
    value = raw.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise CheckpointError(f"{ADAPTER_CONFIG}: {name} is {value!r}, must be a number above 0")
    return value  # type: ignore[return-value]


def _names(raw: dict[str, Any], name: str) -> tuple[str, ...]:
    value = raw.get(name) or []
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise CheckpointError(f"{ADAPTER_CONFIG}: {name} is {value!r}, must be a list of module names")
    return tuple(sorted(set(value)))
