"""Texts that are encoded on the way of a request, where some of them cannot be."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import Key
from rankport.runtime.server.models.versions import Served
from rankport.runtime.server.scoring.missing import MissingItems
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.opening import open_store
from support.hash_encoder import HashEncoder
from support.token_samples import ENCODER, SPEC


class _FullEncoder(HashEncoder):
    """Encoder that refuses a text, and has room for one."""

    def __init__(self) -> None:
        super().__init__(ENCODER)
        self.begun: list[Future[Any]] = []

    def submit_texts(self, texts: list[str], *given: object, **options: object) -> "Future[Any]":
        if "malformed" in texts:
            raise InvalidRequest("item 0: is malformed")
        if self.begun:
            raise Overloaded("one text is waiting")
        self.begun.append(Future())
        return self.begun[0]


def test_what_was_begun_of_a_request_that_is_refused_is_cancelled(tmp_path: Path) -> None:
    encoder = _FullEncoder()
    query = ScoreQuery(
        "q", ItemColumns.of([Key("a", "red"), Key("b", "malformed"), Key("c", "blue")]), "error", "encode"
    )
    with open_store(tmp_path / "tokens", create=True) as store, ThreadPoolExecutor(1) as threads:
        tokens = HotTokens(store.namespace(ENCODER, SPEC, create=True), 0)
        served = Served(cast(Any, encoder), encoder.describe())
        missing = MissingItems(lambda fingerprint: served, threads)
        with pytest.raises(Overloaded, match="one text is waiting"):
            missing.submit(tokens, query, None, cast(Any, None))
    assert [future.cancelled() for future in encoder.begun] == [True]
