"""Warm-up: a small request of each kind that a model answers, so that its first caller waits no longer than others."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from rankport.protos.errors import BundleError
from rankport.protos.generation import Sampling
from rankport.protos.types import Item, ItemStatus, ModelDescription, Prefix
from rankport.runtime.kinds.capabilities import (
    Capability,
    ClassifyingModel,
    EncodingModel,
    GeneratingModel,
    Model,
    ScoringModel,
    SetRankingModel,
    SparseEncodingModel,
    TaggingModel,
    WeighingModel,
)

_WORD = "a"
Begin = Callable[[Model, ModelDescription], "Future[Any]"]


def warm(model: Model, timeout_s: float) -> None:
    """Has a model answer a small request of each kind, and returns when it has.

    Raises:
        BundleError: it gives a score that is not finite.
        RankportError: as the model, for a request of one short text or token.
    """
    description = model.describe()
    for capability, begin in _BEGIN.items():
        if capability in model.capabilities:
            result = begin(model, description).result(timeout_s)
            _check(result, description)


def _check(result: Any, description: ModelDescription) -> None:
    statuses = getattr(result, "status", ())
    if ItemStatus.FAILED in statuses:
        reason = result.messages[statuses.index(ItemStatus.FAILED)]
        raise BundleError(f"bundle {description.name!r} fails its first request: {reason}")


def _text(description: ModelDescription) -> str | list[int]:
    return _WORD if "text" in description.item_forms else [0]


def _item(description: ModelDescription) -> Item:
    if {"text", "token_ids"} & set(description.item_forms):
        return _text(description)
    shape = (description.embedding_tokens, description.hidden_size)
    return np.zeros(shape, description.embedding_dtype or "float32")


def _prefix(description: ModelDescription) -> Prefix:
    if description.prompt_fields:
        return dict.fromkeys(description.prompt_fields, _WORD)
    return _WORD if "text" in description.item_forms else [0]


def _score(model: Model, description: ModelDescription) -> "Future[Any]":
    prefix, items = _prefix(description), [_item(description)]
    if description.features:
        features = np.zeros((1, len(description.features)), np.float32)
        return cast(WeighingModel, model).submit(prefix, items, features=features, truncation="truncate")
    return cast(ScoringModel, model).submit(prefix, items, truncation="truncate")


def _encode(model: Model, description: ModelDescription) -> "Future[Any]":
    return cast(EncodingModel, model).submit_texts([_text(description)], truncation="truncate")


def _encode_sparse(model: Model, description: ModelDescription) -> "Future[Any]":
    return cast(SparseEncodingModel, model).submit_sparse([_text(description)], truncation="truncate")


def _classify(model: Model, description: ModelDescription) -> "Future[Any]":
    prefix = _prefix(description) if description.prompt_fields else None
    return cast(ClassifyingModel, model).submit_classify(
        [cast(str, _text(description))], prefix, truncation="truncate"
    )


def _tag(model: Model, _: ModelDescription) -> "Future[Any]":
    return cast(TaggingModel, model).submit([_WORD], truncation="truncate")


def _generate(model: Model, _: ModelDescription) -> "Future[Any]":
    return cast(GeneratingModel, model).submit_generate([0], Sampling(max_tokens=1))


def _rank_set(model: Model, _: ModelDescription) -> "Future[Any]":
    ranker = cast(SetRankingModel, model)
    return ranker.submit_rank(ranker.small_query())


_BEGIN: Mapping[Capability, Begin] = MappingProxyType(
    {
        "scores": _score,
        "encodes": _encode,
        "encodes_sparse": _encode_sparse,
        "classifies": _classify,
        "tags": _tag,
        "generates": _generate,
        "ranks_sets": _rank_set,
    }
)
