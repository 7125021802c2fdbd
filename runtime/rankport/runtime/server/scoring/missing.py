"""Items whose keys the store lacks, encoded from their texts by the encoder that is served beside the ranker."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import of_single_item
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, NotFound, StoreError
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import ItemStatus, ScoreResult
from rankport.runtime.jobs.row_encoder import content_hash
from rankport.runtime.kinds.capabilities import EncodingModel
from rankport.runtime.scheduling.chained import chained
from rankport.runtime.scheduling.futures import converted, gathered
from rankport.runtime.server.models.versions import Served
from rankport.runtime.server.scoring.rows import with_rows
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.hot_tokens import HotTokens

_log = logging.getLogger(__name__)
Rows = NDArray[np.floating]  # [texts, k, hidden]
EncoderOf = Callable[[str], Served[EncodingModel] | None]
"""Finds the encoder of a fingerprint that is served."""
Submit = Callable[[ScoreQuery, float | None], "Future[ScoreResult]"]


@dataclass(frozen=True, slots=True)
class _Absent:
    """Items of a request that the store lacks and that bring a text."""

    keys: Sequence[str]
    texts: Sequence[str]
    places: NDArray[np.int64]  # [texts] in the request, ascending

    def part(self, start: int, stop: int) -> "_Absent":
        return _Absent(self.keys[start:stop], self.texts[start:stop], self.places[start:stop])


@dataclass(frozen=True, slots=True)
class _Encoding:
    """Some of them under way, and why the others cannot be encoded."""

    parts: Sequence[_Absent]
    futures: "Sequence[Future[Rows]]"  # one a part
    failed: Mapping[int, str]  # by place


class MissingItems:
    """Encodes what a store lacks on the way of a request. Any thread may call it."""

    def __init__(self, encoder_of: EncoderOf, executor: Executor) -> None:
        """`executor` goes on with a request once its items are encoded."""
        self._encoder_of = encoder_of
        self._executor = executor

    def submit(
        self, tokens: HotTokens, query: ScoreQuery, timeout_s: float | None, submit: Submit
    ) -> "Future[ScoreResult]":
        """Submits a query whose missing items are encoded first; their status is `encoded`, and the store gets them.

        A text that cannot be encoded has failed alone. A key without a text is `not_found`, as with "skip".

        Raises:
            NotFound: no encoder of the store's tokens is served.
            RankportError: as reading the store, and as the encoder.
        """
        begun_s = time.monotonic()
        query = replace(query, on_missing="skip")
        absent = _absent(tokens, query.items)
        if not len(absent.places):
            return submit(query, timeout_s)
        encoding = self._encode(tokens.fingerprint, absent, query, timeout_s)
        outcome = partial(_told, encoding=encoding)
        if not encoding.futures:
            return converted(submit(query, timeout_s), outcome)

        def go_on(rows: Sequence[Rows]) -> "Future[ScoreResult]":
            left_s = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - begun_s))
            fitting = [tokens.spec.as_read(part) for part in rows]
            cut = query.truncation == "truncate"
            _store(tokens, encoding.parts, fitting, truncated=cut)
            places = np.concatenate([part.places for part in encoding.parts])
            filled = replace(query, items=with_rows(query.items, places, np.concatenate(fitting)))
            return converted(submit(filled, left_s), outcome)

        return chained(gathered(encoding.futures), go_on, self._executor)

    def _encode(
        self, fingerprint: str, absent: _Absent, query: ScoreQuery, timeout_s: float | None
    ) -> _Encoding:
        encoder = self._encoder_of(fingerprint)
        if encoder is None:
            raise NotFound(
                f"item {absent.places[0]}: the store lacks key {absent.keys[0]!r}, and this server has no encoder "
                f"{fingerprint} to encode its text: serve it too, or give on_missing 'skip'"
            )

        def submit(part: _Absent) -> "Future[Rows]":
            return encoder.model.submit_texts(part.texts, timeout_s, truncation=query.truncation)

        return _all_good(submit, absent)


def _absent(tokens: HotTokens, items: ItemColumns) -> _Absent:
    texts, keys = items.key_texts, items.keys
    if texts is None or keys is None:
        return _Absent((), (), np.empty(0, np.int64))
    names = [keys.values[index] for index in np.searchsorted(keys.places, texts.places).tolist()]
    there = tokens.read(names).places
    absent = np.setdiff1d(np.arange(len(names)), there, assume_unique=True)
    listed = absent.tolist()
    return _Absent(
        [names[index] for index in listed], [texts.values[index] for index in listed], texts.places[absent]
    )


def _all_good(submit: Callable[[_Absent], "Future[Rows]"], absent: _Absent) -> _Encoding:
    """Submits all texts that can be encoded: bad ones are found by halving."""
    try:
        return _Encoding([absent], [submit(absent)], {})
    except InvalidRequest as error:
        if len(absent.texts) == 1:
            return _Encoding([], [], {int(absent.places[0]): of_single_item(str(error))})
    middle = len(absent.texts) // 2
    left = _all_good(submit, absent.part(0, middle))
    try:
        right = _all_good(submit, absent.part(middle, len(absent.texts)))
    except BaseException:
        for future in left.futures:  # nobody waits for them
            future.cancel()
        raise
    return _Encoding(
        [*left.parts, *right.parts], [*left.futures, *right.futures], {**left.failed, **right.failed}
    )


def _store(tokens: HotTokens, parts: Sequence[_Absent], rows: Sequence[Rows], *, truncated: bool) -> None:
    """Has the store keep the tokens. A store that cannot is told in the log: the request has what it needs."""
    entries = [
        TokenEntry(key, row, content_hash(text, truncated=truncated))
        for part, own in zip(parts, rows, strict=True)
        for key, text, row in zip(part.keys, part.texts, own, strict=True)
    ]
    try:
        tokens.put(entries)
    except StoreError as error:
        _log.warning("%d encoded items were not stored: %s", len(entries), error)


def _told(result: ScoreResult, encoding: _Encoding) -> ScoreResult:
    """Says of each item what became of it."""
    status, messages = list(result.status), list(result.messages)
    for place in (int(place) for part in encoding.parts for place in part.places):
        if status[place] is ItemStatus.OK:
            status[place] = ItemStatus.ENCODED
    for place, reason in encoding.failed.items():
        status[place], messages[place] = ItemStatus.FAILED, reason
    return replace(result, status=tuple(status), messages=tuple(messages))
