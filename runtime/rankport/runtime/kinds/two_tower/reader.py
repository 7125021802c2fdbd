"""`Reader`: texts of one side to token runs, by the prompt, and to the queue of the engines that read them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np

from rankport.protos.arguments import is_chat, of_single_item
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Item, Prefix, Side, Truncation
from rankport.protos.wording import type_told
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.text_engine import TextRows, WeightRows
from rankport.runtime.kinds.text_engines import TextsEngine
from rankport.runtime.prompt.encoded import EMPTY, EncodedPrefix
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.tokens import TokenRun, TokenRuns


def checked_side(side: Side | None) -> Side:
    """Gives the side that texts are read by: items' where none is said. Raises InvalidRequest for another word."""
    if side not in (None, *get_args(Side)):
        raise InvalidRequest(f"side is {side!r}: give query or item")
    return side or "item"


@dataclass(frozen=True, slots=True)
class Reader:
    """One side of two towers."""

    prompt: PromptEncoder
    engines: Replicas[TextsEngine]
    as_prefix: bool  # texts are the prefix of the prompt, else its item

    def read(self, text: Prefix, truncation: Truncation) -> EncodedPrefix:
        """Encodes one text of a side. Raises as `PromptEncoder.encode_prefix`."""
        if self.as_prefix:
            return self.prompt.encode_prefix(text, truncation)
        if isinstance(text, Mapping) or is_chat(text):
            given = "fields by name" if isinstance(text, Mapping) else "the messages of a chat"
            raise InvalidRequest(f"prefix gives {given}, and the bundle reads a query as one text: give that")
        try:
            encoded = self.prompt.encode_items([cast(Item, text)], truncation)
        except InvalidRequest as error:
            raise type(error)(f"prefix: {of_single_item(str(error))}") from None
        return EncodedPrefix(TokenRun(encoded.runs.ids), truncated=bool(len(encoded.truncated)))

    def read_all(self, texts: ItemColumns, truncation: Truncation) -> TokenRuns:
        """Encodes texts or token ids, of which the message of an error has the index."""
        if not self.as_prefix:
            return self.prompt.encode_items(texts, truncation).runs
        return TokenRuns.of([self._read_one(index, text, truncation) for index, text in enumerate(texts)])

    def submit(self, runs: TokenRuns, timeout_s: float | None, spent_s: float) -> "Future[TextRows]":
        """Queues runs; rows [runs, vectors, width]. Raises and answers as `TextEngine.submit`."""
        return self.engines.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=spent_s), len(runs.ids)
        )

    def submit_weights(
        self, runs: TokenRuns, timeout_s: float | None, spent_s: float
    ) -> "Future[WeightRows]":
        """Queues runs whose rows are weights of a vocabulary. Raises and answers as `TextEngine.submit_weights`."""
        return self.engines.submit(
            lambda engine: engine.submit_weights(runs, timeout_s, spent_s=spent_s), len(runs.ids)
        )

    def _read_one(self, index: int, text: object, truncation: Truncation) -> TokenRun:
        if not isinstance(text, str | Sequence | np.ndarray):
            raise InvalidRequest(f"item {index} is {type_told(text)}; give text or token ids")
        if not len(text.strip() if isinstance(text, str) else text):
            raise InvalidRequest(f"item {index}: {EMPTY}")
        try:
            return self.read(text, truncation).run  # type: ignore[arg-type]
        except InvalidRequest as error:
            raise type(error)(f"item {index}: {error}") from None
