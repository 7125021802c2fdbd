"""vLLM's score: `/score`, `/v1/score`. One text against many, or pairs."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from typing import Literal
from uuid import uuid4

from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.server.http.call import Call, Reply, all_or_none
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import Texts
from rankport.runtime.server.http.scoring import Scored, all_scored, kind_as, score_counted_texts, scores_as
from rankport.runtime.server.http.vllm_options import VllmOptions

_PAIRS = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
_SIDES = tuple(dict.fromkeys(name for pair in _PAIRS for name in pair))
_ITEM = re.compile(r"^item (\d+)\b")


class VllmScore(VllmOptions):
    """Request of vLLM's score: one text and many, or as many as there are on the other side."""

    text_1: str | Texts | None = None
    text_2: str | Texts | None = None
    queries: str | Texts | None = None
    documents: str | Texts | None = None
    items: str | Texts | None = None
    data_1: str | Texts | None = None
    data_2: str | Texts | None = None
    encoding_format: Literal["float"] | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs the texts. Raises `InvalidRequest` if there are none, or counts that do not fit."""
        given = [name for name in _SIDES if getattr(self, name) is not None]
        pair = next((pair for pair in _PAIRS if set(given) <= set(pair)), None)
        if not given or pair is None:
            raise InvalidRequest(f"give {', or '.join(' and '.join(names) for names in _PAIRS)}")
        if len(given) != 2:
            raise InvalidRequest(f"give both {pair[0]} and {pair[1]}")
        first, second = (getattr(self, name) for name in pair)
        firsts, seconds = ([side] if isinstance(side, str) else side for side in (first, second))
        if len(firsts) not in (1, len(seconds)):
            raise InvalidRequest(
                f"{pair[0]} has {counted(len(firsts), 'text')} and {pair[1]} {len(seconds)}: give one, or "
                "as many"
            )
        return [(firsts[index if len(firsts) > 1 else 0], text) for index, text in enumerate(seconds)]


async def _score(call: Call, form: VllmScore) -> Reply:
    truncation = form.truncation(call)
    pairs = form.pairs()
    call.check_size(len(pairs))
    places: dict[str, list[int]] = defaultdict(list)  # by query, whose items share a prefix
    for place, (query, _) in enumerate(pairs):
        places[query].append(place)
    # A queue has room for so many requests, of all callers: all queries at once would never find it on their own.
    room = asyncio.Semaphore(call.core.config.score_stream_window)
    with call.scorer(form.model) as served:

        async def placed(query: str, own: Sequence[int]) -> Scored:
            texts = [pairs[place][1] for place in own]
            async with room:
                return await _placed(score_counted_texts(call, served, query, texts, truncation), own)

        results = await all_or_none(placed(query, own) for query, own in (places or {"": []}).items())
    scores = {
        place: float(score)
        for own, scored in zip(places.values(), results, strict=False)
        for place, score in zip(own, scores_as(all_scored(scored).result, form.use_activation), strict=True)
    }
    return _reply(form, scores, results)


async def _placed(scored: Awaitable[Scored], places: Sequence[int]) -> Scored:
    """Awaits the scores of some pairs; an error that names one says its place in the request."""
    try:
        return await scored
    except InvalidRequest as error:
        message = _ITEM.sub(lambda item: f"item {places[int(item[1])]}", str(error))
        raise type(error)(message) from error


def _reply(form: VllmScore, scores: dict[int, float], results: list[Scored]) -> Reply:
    tokens = sum(scored.prompt_tokens for scored in results)
    scored = results[0]
    body = {
        "id": form.request_id or f"score-{uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": scored.model.name,
        "data": [{"index": place, "object": "score", "score": scores[place]} for place in sorted(scores)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "score_kind": kind_as(scored.result, form.use_activation),
    }
    headers = {**scored.headers(form.use_activation), "x-rankport-prompt-tokens": str(tokens)}
    return Reply(body, headers)


SCORE = Dialect("vLLM: score texts, or pairs", VllmScore, _score, openai_error)
