"""Scores of texts against one query: what all dialects of reranking are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.ranking import best_first
from rankport.protos.scores import label_probabilities, unrounded
from rankport.protos.types import ItemStatus, ModelDescription, ScoreResult, Truncation
from rankport.protos.wording import counted
from rankport.runtime.kinds.capabilities import ScoringModel
from rankport.runtime.prompt.checks import fields_told
from rankport.runtime.server.http.call import Call
from rankport.runtime.server.models.models import Served

_SURE = 1 - 2**-25  # a probability that float32 rounds to 1


@dataclass(frozen=True, slots=True)
class Scored:
    """Result of one request and the model that gave it."""

    model: ModelDescription
    result: ScoreResult

    @property
    def prompt_tokens(self) -> int:
        """Tokens that were read: the prefix once, and all items."""
        usage = self.result.usage
        return usage.prefix_tokens_cached + usage.prefix_tokens_computed + usage.item_tokens

    def headers(self, normalized: bool | None = None) -> Mapping[str, str]:
        """Makes headers that say of any answer what its scores are, and what was read and cut for them."""
        return own_headers(
            self.model,
            score_kind=kind_as(self.result, normalized),
            read_out=self.result.read_out,
            prompt_tokens=str(self.prompt_tokens),
            truncated_items=str(len(self.truncated)),
            **({} if self.result.depth is None else {"depth": str(self.result.depth)}),
        )

    @property
    def truncated(self) -> list[int]:
        """Items whose text, or the query before it, was cut."""
        return [i for i, status in enumerate(self.result.status) if status is ItemStatus.TRUNCATED]

    @property
    def usage(self) -> Mapping[str, int]:
        """Usage as OpenAI's clients read it."""
        return {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens}


async def score_texts(
    call: Call, served: Served[ScoringModel], query: str, texts: Sequence[str], truncation: Truncation
) -> Scored:
    """Scores texts against a query, which fills the only field of the model's prompt.

    Raises `InvalidRequest` where the prompt has several, and for a text that got no score: dialects cannot say so.
    """
    call.check_size(len(texts))
    return await score_counted_texts(call, served, query, texts, truncation)


async def score_counted_texts(
    call: Call, served: Served[ScoringModel], query: str, texts: Sequence[str], truncation: Truncation
) -> Scored:
    """Scores as `score_texts` texts that `check_size` has counted, as part of a request with several queries."""
    check_fields(served.description)
    return without_failures(
        await score(call, served, ScoreQuery(query, ItemColumns.of(texts), truncation, "skip"))
    )


def without_failures(scored: Scored) -> Scored:
    """Takes a result whose items have scores, or were left out under pressure; raises `InvalidRequest` otherwise."""
    for index, status in enumerate(scored.result.status):
        if status in (ItemStatus.FAILED, ItemStatus.NOT_FOUND):
            raise InvalidRequest(f"item {index}: {scored.result.messages[index]}")
    return scored


def all_scored(scored: Scored) -> Scored:
    """Takes a result whose items all have scores. Raises `Overloaded` where some were left out under pressure."""
    missing = int(np.isnan(without_failures(scored).result.scores).sum())
    if missing:
        raise Overloaded(
            f"{missing} of {counted(len(scored.result.scores), 'item')} were left out under pressure; retry later"
        )
    return scored


async def score(call: Call, served: Served[ScoringModel], query: ScoreQuery) -> Scored:
    """Has a model score a query. Raises as the model's `submit`."""
    result = await call.run(lambda left_s: call.core.scoring.submit(served, query, left_s))
    return Scored(served.description, result)


def check_fields(model: ModelDescription) -> None:
    """Raises `InvalidRequest` where a query cannot fill the prompt: it has not one field."""
    if len(model.prompt_fields) != 1:
        prefix = "{field: text}" if model.prompt_fields else '""'
        raise InvalidRequest(
            f"query: the prompt of {model.name!r} has {fields_told(model.prompt_fields)}, and a query fills one: "
            f"ask /v1/rankport/score, with prefix {prefix}"
        )


def own_headers(model: ModelDescription, **said: str) -> Mapping[str, str]:
    """Makes headers that say which model answered, and what else is `said`, percent-encoded where it is not plain."""
    told = {"model": model.name, "version": model.version, "fingerprint": model.fingerprint, **said}
    return {
        f"x-rankport-{name.replace('_', '-')}": quote(value, safe=" ,:+/()") for name, value in told.items()
    }


def probabilities(result: ScoreResult) -> NDArray[np.floating]:
    """Computes scores from 0 to 1: logits by the sigmoid, log-probabilities of texts by exp; others are as they are.

    [items]
    """
    if result.score_kind == "log_likelihood":
        return np.exp(result.scores)
    if result.score_kind != "logit":
        return result.scores
    return label_probabilities(result.scores[:, None], exclusive=False)[:, 0]


def raw_scores(result: ScoreResult) -> NDArray[np.floating]:
    """Computes scores as logits, of a probability its log-odds; cosines are as they are. [items]

    They are made of the label logits, of which the probability is known by its value: float32 rounds those near 1 to 1.
    """
    if result.score_kind != "probability":
        return result.scores
    if (values := unrounded(result)) is not None:
        return values
    likely = np.clip(result.scores.astype(np.float64), 1 - _SURE, _SURE)
    odds: NDArray[np.float64] = np.log(likely / (1 - likely))
    return odds


def ranked(result: ScoreResult, top_n: int | None) -> list[int]:
    """Lists the places of items best first, and keeps `top_n`; 0 and None: all.

    Items without a score, which a server left out under pressure, are not among them.
    """
    order = best_first(result)[: top_n or None]
    places: list[int] = order[~np.isnan(result.scores[order])].tolist()
    return places


def scores_as(result: ScoreResult, normalized: bool | None) -> NDArray[np.floating]:
    """Computes scores as a client asks for them: from 0 to 1, as logits, or, None, as the bundle makes them. [items]"""
    if normalized is None:
        return result.scores
    return probabilities(result) if normalized else raw_scores(result)


def kind_as(result: ScoreResult, normalized: bool | None) -> str:
    """Names what `scores_as` gives."""
    if normalized is None or result.score_kind == "cosine":
        return result.score_kind
    if result.score_kind == "log_likelihood":
        return "probability" if normalized else result.score_kind
    return "probability" if normalized else "logit"
