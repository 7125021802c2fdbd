"""Names that transformers' code reads of a config: of a family's model and config, of what all models share.

Sources are searched, not imported, which takes seconds for some families. Which fields a checkpoint states, `fields`
knows.
"""

import importlib.util
import inspect
import re
from functools import cache
from pathlib import Path

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

# `config.field`, `getattr(config, "field"`, whatever the config is called.
_READ = re.compile(r"""config\w*(?:\.get_text_config\([^)]*\))?(?:\.|\s*,\s*["'])([a-zA-Z_]\w*)""")
# `kwargs.get("field"` in a config: a name of earlier releases that another field is made of.
_TAKEN = re.compile(r"""kwargs\.(?:get|pop)\(\s*["']([a-zA-Z_]\w*)["']""")
_QUOTED = re.compile(r"""["']([a-zA-Z_]\w*)["']""")
_NAME = re.compile(r"[a-zA-Z_]\w*")
_OWN = re.compile(r"self\.([a-zA-Z_]\w*)")
_ANOTHER_MODEL = re.compile(r"^from \.\.(\w+)\.(modeling_\w+) import", re.MULTILINE)
_FAMILIES = "transformers.models."
_SHARED_READERS = ("modeling_layers", "modeling_rope_utils")
_SHARED = (*_SHARED_READERS, "masking_utils", "cache_utils", "modeling_utils")


@cache
def read_by_model(config_module: str) -> frozenset[str]:
    """Lists the fields that the family's own model code reads of its config, declared or not."""
    return _read_in(*map(_shared, _SHARED_READERS), _model_of(config_module))


@cache
def taken_by_config(config_module: str) -> frozenset[str]:
    """Lists the fields that the family's own config makes others of: `global_attn_every_n_layers` of ModernBERT."""
    return frozenset(_TAKEN.findall(_source(config_module)))


@cache
def named_in_code(config_module: str) -> frozenset[str]:
    """Lists every name in the family's model and those it imports, and what its config computes with."""
    own = _source(config_module)
    names = {name for module in _models(config_module) for name in _NAME.findall(_source(module))}
    return _read_in(*map(_shared, _SHARED)).union(names, _OWN.findall(own), _QUOTED.findall(own))


@cache
def named_by_rope(config_module: str) -> frozenset[str]:
    """Lists the names that the code of rotary embeddings has between quotes, and with a family its config and model."""
    own = (config_module, _model_of(config_module)) if config_module else ()
    return _quoted_in("transformers.modeling_rope_utils", *own)


@cache
def read_by_rope(kind: str, config_module: str) -> frozenset[str] | None:
    """Lists the names that rotary embeddings of one kind read; None of a kind whose code is not found."""
    own = _quoted_in(config_module, _model_of(config_module))
    if kind == "default":
        return own
    compute = ROPE_INIT_FUNCTIONS.get(kind)
    return None if compute is None else own.union(_QUOTED.findall(inspect.getsource(compute)))


def _models(config_module: str) -> set[str]:
    """Lists the module of a family's model, and of other families' that it imports from."""
    found, waiting = set[str](), [_model_of(config_module)]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            imported = _ANOTHER_MODEL.findall(_source(module))
            waiting += [f"{_FAMILIES}{family}.{name}" for family, name in imported]
    return found


def _read_in(*modules: str) -> frozenset[str]:
    return frozenset(name for module in modules for name in _READ.findall(_source(module)))


def _quoted_in(*modules: str) -> frozenset[str]:
    return frozenset(name for module in modules for name in _QUOTED.findall(_source(module)))


@cache
def _model_of(config_module: str) -> str:
    """Names the module of a family's model: another family's where it has none of its own (EXAONE 3 is a Llama)."""
    own = config_module.replace(".configuration_", ".modeling_")
    package, _, name = config_module.rpartition(".configuration_")
    if _source(own) or not package.startswith(_FAMILIES):
        return own
    model = MODEL_MAPPING_NAMES.get(name)
    for family in (family for family, each in MODEL_MAPPING_NAMES.items() if each == model):
        module = model_type_to_module_name(family)
        if _source(shared := f"{_FAMILIES}{module}.modeling_{module}"):
            return shared
    return own


def _shared(name: str) -> str:
    return f"transformers.{name}"


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return "" if spec is None or spec.origin is None else Path(spec.origin).read_text(encoding="utf-8")
