"""Merges a LoRA adapter into its base, in fp32, so that everything after sees an ordinary model.

Peft does the arithmetic; it warns or stays silent about tensors that do not belong, so what is stored and what the
merged model needs are compared here, name by name and shape by shape. Never unpickles.

Merged weights: W + s B A, s = alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2106.09685, section 4.1;
arXiv 2312.03732); DoRA rescales the columns of that sum (arXiv 2402.09353, section 4).
"""

import copy
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.adapters.config import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    PREFIX,
    AdapterConfig,
    plain_name,
)
from rankport.exporters.checkpoints.forms.adapters.head import stated_labels
from rankport.exporters.checkpoints.forms.adapters.tokens_alone import name_in_lora
from rankport.exporters.checkpoints.forms.adapters.vocabulary import Vocabulary
from rankport.exporters.checkpoints.forms.fill import require_finite
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

_ORIGINAL = ".original_module."
_SCORE, _BIAS = "score.weight", "score.bias"
# Peft doubles ranks and alphas of gates and ups that become one, and reads these for the modules that there were.
_LOST_WITH_NAMES = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform")


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """Facts of an adapter that was merged."""

    peft_type: str
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    modules_to_save: tuple[str, ...]
    base: str | None  # base_model_name_or_path, as the adapter says it
    notes: tuple[str, ...]  # what the adapter changed besides weights

    @classmethod
    def of(cls, config: AdapterConfig, notes: Iterable[str]) -> "AdapterFacts":
        """Takes the facts of its config."""
        return cls(
            config.type,
            config.rank,
            config.alpha,
            config.target_modules,
            config.modules_to_save,
            config.base,
            tuple(notes),
        )


def merge_adapter(model: nn.Module, adapter: Path) -> tuple[nn.Module, AdapterFacts]:
    """Merges a folder's adapter into the fp32 `model`, in place; makes another one only if the adapter brings a head.

    Raises CheckpointError naming the field or tensor that cannot be merged exactly.
    """
    config = AdapterConfig.read(adapter)
    stored = read_adapter(adapter)
    trains = {parameter.requires_grad for parameter in model.parameters()} == {True}
    model = _with_head(model, stored, adapter)
    root, stored = _root(model, stored)
    vocabulary = Vocabulary.of(model, root, config)
    notes = vocabulary.prepare(stored)
    merge_lora(root, config, stored)
    notes += vocabulary.settle()
    model.eval().requires_grad_(trains)
    return model, AdapterFacts.of(config, notes)


def read_adapter(adapter: Path) -> dict[str, Tensor]:
    """Reads the stored tensors in fp32, named as in the model that was trained."""
    file = adapter / ADAPTER_WEIGHTS
    if not file.is_file():
        pickled = " (adapter_model.bin is a pickle, which is never loaded)"
        raise CheckpointError(
            f"adapter {str(adapter)!r} has no {ADAPTER_WEIGHTS}"
            f"{pickled if (adapter / 'adapter_model.bin').is_file() else ''}: save it with "
            "save_pretrained(safe_serialization=True)"
        )
    tensors = StoredTensors((file,))
    result = {}
    for name in tensors:
        if not name.startswith(PREFIX):
            raise CheckpointError(
                f"adapter tensor {name!r} does not start with {PREFIX!r}: peft did not write it"
            )
        tensor = tensors.read(name)
        require_finite(name, tensor)
        result[name_in_lora(name.removeprefix(PREFIX))] = tensor.to(torch.float32)
    return _without_wrappers(result)


def _without_wrappers(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drops what peft stores twice: resized embeddings under the wrapper's name, beside those before training."""
    result = {}
    for name, tensor in stored.items():
        plain = plain_name(name)
        if _ORIGINAL in name:
            continue
        if plain != name and plain in stored and not torch.equal(tensor, stored[plain]):
            raise CheckpointError(f"the adapter holds two different tensors for {plain!r}: save it again")
        result[plain] = tensor
    return result


def _with_head(model: nn.Module, stored: dict[str, Tensor], adapter: Path) -> nn.Module:
    """Makes of a causal LM the classifier that the adapter was trained as: the head comes with the adapter alone."""
    if _SCORE not in stored or model.base_model is model or hasattr(model, "score"):
        return model
    if _BIAS in stored:
        raise CheckpointError(
            f"the adapter holds tensor {_BIAS!r}, which a tagger has over {type(model).__name__} and a classifier has "
            f"not: state task_type 'TOKEN_CLS' in {ADAPTER_CONFIG} if it labels each token of a text"
        )
    labels, hidden = stored[_SCORE].shape
    config: Any = copy.deepcopy(model.config)
    config.num_labels = labels
    stated = stated_labels(adapter, labels)
    if names := stated.get("id2label"):
        config.id2label = {int(place): str(name) for place, name in names.items()}
        config.label2id = {name: place for place, name in config.id2label.items()}
    config.problem_type = stated.get("problem_type", config.problem_type)
    try:
        with quiet(), torch.device("meta"):
            classifier: nn.Module = transformers.AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=False
            )
    except ValueError as error:
        raise CheckpointError(
            f"the adapter holds a classification head ({_SCORE!r}), and transformers has no classifier of "
            f"{type(model).__name__}: {error}"
        ) from error
    setattr(classifier, str(classifier.base_model_prefix), model.base_model)
    classifier.score = nn.Linear(hidden, labels, bias=False)  # overwritten by the adapter's
    classifier.config._attn_implementation = model.config._attn_implementation  # type: ignore[union-attr]
    return classifier


class _Around(nn.Module):
    """A bare body under the name that it has inside the model that was trained."""

    def __init__(self, name: str, body: nn.Module) -> None:
        super().__init__()
        setattr(self, name, body)


def _root(model: nn.Module, stored: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Finds the module whose names the adapter uses, and the tensors that concern it.

    Adapters of whole models are merged into bare bodies and the other way round.
    """
    name = str(model.base_model_prefix)
    inside = {key: tensor for key, tensor in stored.items() if key.startswith(f"{name}.")}
    if model.base_model is model:
        # What is left out is the head's, which a body does not have.
        return (_Around(name, model), inside) if inside else (model, stored)
    return (model, stored) if inside else (model.base_model, stored)  # type: ignore[return-value]


def merge_lora(root: nn.Module, config: AdapterConfig, stored: dict[str, Tensor]) -> None:
    """Merges what is stored into the modules below `root`, in place. Raises CheckpointError for what does not fit."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    fields = config.raw | {
        "task_type": None,  # task classes wrap generation and losses, which a merge does not need
        "inference_mode": True,
        "init_lora_weights": False,  # overwritten
        "modules_to_save": list(config.modules_to_save) or None,
        "base_model_name_or_path": None,  # peft looks such names up
        "auto_mapping": None,
    }
    known = LoraConfig.__dataclass_fields__
    with _peft_errors(config), warnings.catch_warnings():
        # What peft warns of is checked by name below, or settled by `Vocabulary`.
        warnings.simplefilter("ignore")
        wrapped: Any = get_peft_model(
            root,
            LoraConfig(**{name: value for name, value in fields.items() if name in known}),
        )
        stored = _as_loaded(wrapped, config, stored)
        needed = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        _require_same_tensors(
            {name.removeprefix(PREFIX): tuple(tensor.shape) for name, tensor in needed.items()},
            config,
            stored,
        )
        set_peft_model_state_dict(wrapped, {PREFIX + name: tensor for name, tensor in stored.items()})
        merged = wrapped.merge_and_unload()
    assert merged is root


def _as_loaded(wrapped: Any, config: AdapterConfig, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gives tensors the names of transformers 5: it stacks experts, which were a module each before.

    Raises CheckpointError for scales that peft loses on that way.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    (loaded,) = wrapped.peft_config.values()
    named = {PREFIX + name: tensor for name, tensor in stored.items()}
    converted = convert_peft_adapter_state_dict_for_transformers(wrapped, loaded, named)
    moved = next((name.removeprefix(PREFIX) for name in named if name not in converted), None)
    lost = next((field for field in _LOST_WITH_NAMES if moved is not None and config.raw.get(field)), None)
    if lost is not None:
        raise CheckpointError(
            f"adapter tensor {moved!r} has a name of transformers 4, and {ADAPTER_CONFIG}: {lost} is lost where peft "
            "gives it that of transformers 5: merge it with peft's merge_and_unload() where it was trained, and export "
            "the result"
        )
    return {name.removeprefix(PREFIX): tensor for name, tensor in converted.items()}


@contextmanager
def _peft_errors(config: AdapterConfig) -> Iterator[None]:
    """Turns what peft raises into ours: of names in adapter_config.json that the base lacks, or values it refuses."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{ADAPTER_CONFIG}: the adapter of base {config.base!r} does not fit the base given: {error}"
        ) from error


def _require_same_tensors(
    needed: dict[str, tuple[int, ...]], config: AdapterConfig, stored: dict[str, Tensor]
) -> None:
    other = (
        f"{ADAPTER_CONFIG} names base {config.base!r}: is it an adapter of another base than the one given?"
    )
    missing = sorted(needed.keys() - stored.keys())
    if missing:
        raise CheckpointError(
            f"the adapter lacks tensor {missing[0]!r} ({len(missing)} missing in all), which its target_modules ask "
            f"for in this base; {other}"
        )
    extra = sorted(stored.keys() - needed.keys())
    if extra:
        raise CheckpointError(
            f"the adapter holds tensor {extra[0]!r} ({len(extra)} such in all), which has no place in this base; "
            f"{other}"
        )
    for name, shape in needed.items():
        if tuple(stored[name].shape) != shape:
            raise CheckpointError(
                f"adapter tensor {name!r} has shape {list(stored[name].shape)}, this base needs {list(shape)}; {other}"
            )
