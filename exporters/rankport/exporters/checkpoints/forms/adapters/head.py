"""The head that an adapter brings to a base without one: the class that was trained, and what is stored of its head.

Peft trains a classifier over the body of whatever base it is given, and stores the head beside the LoRA. A base that is
a causal LM keeps its own head until a classifier is made of it by the merge; any other, and one of a tagger, is loaded
as the class that was trained, whose head the merge puts in place. Names of its labels stand in a config.json beside it,
if it has one, else in the base's.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.forms.adapters.config import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    plain_name,
    saved_modules,
)
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

_CLASSES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "SEQ_CLS": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "TOKEN_CLS": MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    }
)
_KEPT_UNTIL_MERGED = {"SEQ_CLS": frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())}
_OUTPUTS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")
"""Weights with a row for each label."""
_LABELLED = ("ForSequenceClassification", "ForTokenClassification")
_UNNAMED, _PLACE = re.compile(r"LABEL_\d+"), re.compile(r"-?\d+")


def with_adapters_head(base: CheckpointFolder, adapter: Path) -> CheckpointFolder:
    """Gives the base as the class that the adapter was trained as, which lacks its head until the merge.

    As it is where it is that class, is a causal LM, or where the adapter brings no head; labels are called as the
    adapter's own config.json says.

    Raises CheckpointError for a head whose labels cannot be counted, or of a published layout that transformers lacks.
    """
    trained = _as_trained(base, adapter)
    return _called(trained, adapter) if trained.architecture.endswith(_LABELLED) else trained


def _as_trained(base: CheckpointFolder, adapter: Path) -> CheckpointFolder:
    stated = read_json_object(adapter / ADAPTER_CONFIG)
    classes = _CLASSES.get(str(stated.get("task_type")), {})
    trained = classes.get(str(base.raw.get("model_type")))
    kept = {trained} | _KEPT_UNTIL_MERGED.get(str(stated.get("task_type")), frozenset())
    if trained is None or base.architecture in kept or not (adapter / ADAPTER_WEIGHTS).is_file():
        return base
    stored = StoredTensors((adapter / ADAPTER_WEIGHTS,))
    saved = set(saved_modules(stated))
    whole = {
        plain_name(name): name for name in stored if saved & set(name.split(".")) and ".lora_" not in name
    }
    if not whole:
        return base
    if base.words is not None and trained not in base.words.classes:
        known = ", ".join(sorted(base.words.classes))
        raise CheckpointError(
            f"{adapter / ADAPTER_CONFIG}: task_type is {stated['task_type']!r}, over the layout of "
            f"{base.published.code}, of whose classes transformers has {known} alone: export the merged model of one "  # type: ignore[union-attr]
            "of these"
        )
    outputs = next((whole[name] for name in _OUTPUTS if name in whole), None)
    if outputs is None:
        raise CheckpointError(
            f"{adapter / ADAPTER_WEIGHTS}: no tensor tells how many labels its head has (there are none of "
            f"{', '.join(_OUTPUTS)}): merge it with peft's merge_and_unload() and export the result"
        )
    return dataclasses.replace(
        base,
        raw=_labelled(base.raw, stored.shape(outputs)[0]) | {"architectures": [trained]},
        brought=frozenset(whole),
    )


def _labelled(raw: dict[str, Any], labels: int) -> dict[str, Any]:
    """Sets the count of labels; an adapter has no names of them, and the base's are taken where they are as many."""
    names = raw.get("id2label")
    if isinstance(names, dict) and len(names) == labels:
        return raw
    others = ("id2label", "label2id")
    return {name: value for name, value in raw.items() if name not in others} | {"num_labels": labels}


def stated_labels(adapter: Path, count: int) -> dict[str, Any]:
    """Reads names of labels, where there are as many, and `problem_type` of a config.json beside an adapter.

    Raises CheckpointError for a name of a place that is no number.
    """
    file = adapter / "config.json"
    own = read_json_object(file) if file.is_file() else {}
    stated = {name: own[name] for name in ("id2label", "problem_type") if own.get(name) is not None}
    names = own.get("id2label")
    if not isinstance(names, dict) or len(names) != count or _are_unnamed(names):
        stated.pop("id2label", None)
        return stated
    odd = next((place for place in names if not _PLACE.fullmatch(place)), None)
    if odd is not None:
        raise CheckpointError(f"{file}: id2label names the output {odd!r}: must be a number, from 0 on")
    return stated


def _called(base: CheckpointFolder, adapter: Path) -> CheckpointFolder:
    below = base.raw.get("id2label")
    stated = stated_labels(adapter, len(below) if isinstance(below, dict) else base.raw.get("num_labels", 2))
    replaced = {"label2id"} if "id2label" in stated else set[str]()
    kept = {name: value for name, value in base.raw.items() if name not in replaced}
    return dataclasses.replace(base, raw=kept | stated)


def _are_unnamed(id2label: Mapping[str, object]) -> bool:
    """Tells the names that transformers gives to labels of which nobody said any."""
    return all(_UNNAMED.fullmatch(str(name)) for name in id2label.values())
