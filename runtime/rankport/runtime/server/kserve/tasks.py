"""Tasks that a model does by its capabilities: which tensors it takes and gives, and how they become a request."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankport.protos.classes import ClassifyResult, ClassTexts
from rankport.protos.columns import Column, ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.files.json_text import json_of_text
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.tagging import TagResult, TagTexts
from rankport.protos.types import ModelDescription, Prefix, ScoreResult, Usage
from rankport.protos.wording import counted
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.server.kserve.tensors import BYTES, Tensors, Value
from rankport.runtime.server.models.models import Served
from rankport.runtime.server.scoring.scoring import Scoring

Options = Mapping[str, str]
Outputs = Mapping[str, Value]
_ITEMS = ("items", "item_keys", "item_embeddings")


@dataclass(frozen=True, slots=True)
class Spec:
    """Tensor that a task takes or gives; -1 is a size that the request decides."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a model does."""

    inputs: Callable[[ModelDescription], tuple[Spec, ...]]
    outputs: Callable[[ModelDescription], tuple[Spec, ...]]
    # Parameters of the request and their values, the first the default.
    options: Mapping[str, tuple[str, ...]]
    rows: tuple[str, ...]  # inputs that items are counted by
    submit: Callable[[Scoring, Served[Any], Tensors, Options, float | None], "Future[Any]"]
    answer: Callable[[Any], Outputs]
    usage: Callable[[Any], Usage | None]


def _texts(tensors: Tensors, name: str) -> ItemColumns:
    texts = tensors.texts(name)
    return ItemColumns(len(texts), texts=Column(texts, np.arange(len(texts))))


def _prefix(tensors: Tensors) -> Prefix | None:
    given = [name for name in ("prefix", "prefix_fields") if name in tensors.by_name]
    if len(given) > 1:
        raise InvalidRequest("inputs 'prefix' and 'prefix_fields' are both given; give one")
    if not given:
        return None
    values = tensors.texts(given[0])
    if len(values) != 1:
        raise InvalidRequest(f"input {given[0]!r} has {counted(len(values), 'value')}; all items share one")
    return values[0] if given[0] == "prefix" else _fields(values[0])


def _fields(text: str) -> dict[str, str]:
    try:
        fields = json_of_text(text)
    except ValueError as error:
        raise InvalidRequest(f"input 'prefix_fields' is no JSON: {error}") from None
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise InvalidRequest("input 'prefix_fields' is not a JSON object of texts by field")
    return fields


def _items(tensors: Tensors) -> ItemColumns:
    given = [name for name in _ITEMS if name in tensors.by_name]
    if len(given) != 1:
        raise InvalidRequest(f"inputs {list(_ITEMS)}: give one of them, {given or 'none'} is given")
    if given[0] == "items":
        return _texts(tensors, "items")
    if given[0] == "item_keys":
        keys = tensors.texts("item_keys")
        return ItemColumns(len(keys), keys=Column(keys, np.arange(len(keys))))
    embeddings = tensors.array("item_embeddings", ("FP16", "FP32"), axes=3)
    return ItemColumns(len(embeddings), embeddings=Column(embeddings, np.arange(len(embeddings))))


def _submit_score(
    scoring: Scoring, served: Served[Any], tensors: Tensors, options: Options, timeout_s: float | None
) -> "Future[ScoreResult]":
    prefix = _prefix(tensors)
    if prefix is None:
        raise InvalidRequest("inputs 'prefix' and 'prefix_fields': give one of them, none is given")
    features = None
    if "features" in tensors.by_name:
        features = FeatureColumns(tensors.array("features", ("FP32",), axes=2))
    query = ScoreQuery(prefix, _items(tensors), options["truncation"], options["on_missing"], features)  # type: ignore[arg-type]
    return scoring.submit(served, query, timeout_s)


def _submit_encode(
    _: Scoring, served: Served[Any], tensors: Tensors, options: Options, timeout_s: float | None
) -> "Future[Any]":
    future: Future[Any] = served.model.submit_texts(
        _texts(tensors, "texts"), timeout_s, truncation=options["truncation"], side=options["side"] or None
    )
    return future


def _submit_classify(
    _: Scoring, served: Served[Any], tensors: Tensors, options: Options, timeout_s: float | None
) -> "Future[ClassifyResult]":
    texts = ClassTexts(_texts(tensors, "texts"))
    if "first_texts" in tensors.by_name:
        texts = ClassTexts.paired(texts.texts, _texts(tensors, "first_texts"))
    future: Future[ClassifyResult] = served.model.submit_classify(
        texts, _prefix(tensors), timeout_s, truncation=options["truncation"]
    )
    return future


def _submit_tag(
    _: Scoring, served: Served[Any], tensors: Tensors, options: Options, timeout_s: float | None
) -> "Future[TagResult]":
    texts = TagTexts(tensors.texts("texts"))
    future: Future[TagResult] = served.model.submit(texts, timeout_s, truncation=options["truncation"])
    return future


def _score_inputs(model: ModelDescription) -> tuple[Spec, ...]:
    forms = {
        "text": Spec("items", BYTES, (-1,)),
        "key": Spec("item_keys", BYTES, (-1,)),
        "embeddings": Spec("item_embeddings", "FP16", (-1, model.embedding_tokens, model.hidden_size)),
    }
    features = (Spec("features", "FP32", (-1, len(model.features))),) if model.features else ()
    return (*_PREFIXES, *(spec for form, spec in forms.items() if form in model.item_forms), *features)


def _class_inputs(model: ModelDescription) -> tuple[Spec, ...]:
    """Lists the texts, and of a model that reads pairs the first ones."""
    pairs = (Spec("first_texts", BYTES, (-1,)), *_PREFIXES) if model.prompt_fields else ()
    return (_TEXTS, *pairs)


def _embeddings(model: ModelDescription) -> tuple[Spec, ...]:
    datatype = "FP16" if model.embedding_dtype == "float16" else "FP32"
    by_side = model.kind == "two-tower" and model.embedding_tokens > 1  # of late interaction
    tokens = -1 if by_side else model.embedding_tokens
    return (Spec("embeddings", datatype, (-1, tokens, model.hidden_size)),)


def _rows(*names: str) -> Callable[[ModelDescription], tuple[Spec, ...]]:
    def specs(model: ModelDescription) -> tuple[Spec, ...]:
        rows = tuple(Spec(name, "FP32", (-1, len(model.labels))) for name in names)
        return (*rows, Spec("status", BYTES, (-1,)))

    return specs


_PREFIXES = (Spec("prefix", BYTES, (1,)), Spec("prefix_fields", BYTES, (1,)))
_TEXTS = Spec("texts", BYTES, (-1,), optional=False)
_CUTS = ("error", "truncate")
_SPANS = (
    Spec("counts", "INT64", (-1,)),
    Spec("starts", "INT64", (-1,)),
    Spec("ends", "INT64", (-1,)),
    Spec("labels", BYTES, (-1,)),
    Spec("scores", "FP32", (-1,)),
)

TASKS: Mapping[Capability, Task] = {
    "scores": Task(
        inputs=_score_inputs,
        outputs=lambda model: (Spec("scores", "FP32", (-1,)), *_rows("logits")(model)),
        options={"truncation": _CUTS, "on_missing": ("skip", "fail")},
        rows=_ITEMS,
        submit=_submit_score,
        answer=lambda result: {"scores": result.scores, "logits": result.logits, "status": result.status},
        usage=lambda result: result.usage,
    ),
    "encodes": Task(
        inputs=lambda model: (_TEXTS,),
        outputs=_embeddings,
        options={"truncation": _CUTS, "side": ("", "item", "query")},
        rows=("texts",),
        submit=_submit_encode,
        answer=lambda rows: {"embeddings": rows},
        usage=lambda rows: None,
    ),
    "classifies": Task(
        inputs=_class_inputs,
        outputs=_rows("probabilities", "logits"),
        options={"truncation": _CUTS},
        rows=("texts", "first_texts"),
        submit=_submit_classify,
        answer=lambda result: {
            "probabilities": result.probabilities,
            "logits": result.logits,
            "status": result.status,
        },
        usage=lambda result: result.usage,
    ),
    "tags": Task(
        inputs=lambda model: (_TEXTS,),
        outputs=lambda model: _SPANS,
        options={"truncation": (*_CUTS, "windows")},
        rows=("texts",),
        submit=_submit_tag,
        answer=lambda result: {
            "counts": np.diff(result.offsets),
            "starts": result.starts,
            "ends": result.ends,
            "labels": [result.names[label] for label in result.labels.tolist()],
            "scores": result.scores,
        },
        usage=lambda result: result.usage,
    ),
}


def tasks_of(served: Served[Any]) -> list[Task]:
    """Lists what a model does."""
    return [task for capability, task in TASKS.items() if capability in served.model.capabilities]


def task_of(served: Served[Any], inputs: set[str], outputs: set[str]) -> Task:
    """Finds the task that takes these inputs and gives these outputs, the first of several.

    Raises InvalidRequest naming what is unknown or missing.
    """
    tasks = tasks_of(served)
    for task in tasks:
        if not _complaint(task, served.description, inputs, outputs):
            return task
    if not tasks:
        raise InvalidRequest(f"model {served.description.name!r} does nothing that this protocol has")
    complaints = [_complaint(task, served.description, inputs, outputs) for task in tasks]
    raise InvalidRequest(f"model {served.description.name!r}: {'; or '.join(complaints)}")


def _complaint(task: Task, model: ModelDescription, inputs: set[str], outputs: set[str]) -> str:
    """Says why a task is not meant; "" if it may be."""
    taken, given = task.inputs(model), {spec.name for spec in task.outputs(model)}
    names = [spec.name for spec in taken]
    for unknown in sorted(inputs - set(names)):
        return f"input {unknown!r:.60} is unknown; it takes {', '.join(names)}"
    for spec in taken:
        if not spec.optional and spec.name not in inputs:
            return f"input {spec.name!r} is missing"
    for unknown in sorted(outputs - given):
        return f"output {unknown!r:.60} is unknown; it gives {', '.join(sorted(given))}"
    return ""
