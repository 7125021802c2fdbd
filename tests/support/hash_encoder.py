"""A small deterministic item encoder: tokens are numbers drawn from the hash of the text."""

from collections.abc import Sequence
from concurrent.futures import Future
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest, LimitExceeded
from rankport.protos.priorities import Priority
from rankport.protos.types import ModelDescription, Side, Truncation
from rankport.runtime.kinds.capabilities import ModelCounts
from rankport.runtime.scheduling.futures import resolved

MAX_CHARS = 40


class HashEncoder:
    """Encodes texts of up to 40 characters; some words in a text make it fail as real ones do.

    With `padding_matters`, tokens also depend on the longest text of the batch, as in a model whose sums round
    otherwise when padded otherwise.
    """

    def __init__(
        self,
        fingerprint: str = "hash-encoder",
        tokens: int = 2,
        hidden_size: int = 8,
        *,
        padding_matters: bool = False,
    ) -> None:
        self.fingerprint = fingerprint
        self.calls: list[list[str]] = []
        self._tokens = tokens
        self._hidden_size = hidden_size
        self._padding_matters = padding_matters

    def describe(self) -> ModelDescription:
        return ModelDescription(
            name="hash",
            version="1",
            kind="item-encoder",
            fingerprint=self.fingerprint,
            architecture="hash",
            precision="fp32",
            labels=(),
            prompt_fields=(),
            item_forms=("text",),
            hidden_size=self._hidden_size,
            embedding_tokens=self._tokens,
            embedding_dtype="float16",
            max_prefix_tokens=0,
            max_item_tokens=MAX_CHARS,
            paired_encoder="",
            score_kind="",
            read_out="",
        )

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        self.calls.append(list(texts))
        for index, text in enumerate(texts):
            if len(text) > MAX_CHARS and truncation == "error":
                raise LimitExceeded(f"item {index} has {len(text)} characters, the limit is {MAX_CHARS}")
            if "malformed" in text:
                raise InvalidRequest(f"item {index} is malformed")
            if "crash" in text:
                raise BackendError("the pass failed")
        cut = [text[:MAX_CHARS] for text in texts]
        longest = max(len(text) for text in cut) if self._padding_matters else 0
        return np.stack([self._draw(text, longest) for text in cut])

    def _draw(self, text: str, longest: int) -> NDArray[np.float16]:
        seed = int.from_bytes(blake2b(f"{longest} {text}".encode(), digest_size=8).digest(), "little")
        drawn = np.random.default_rng(seed).standard_normal((self._tokens, self._hidden_size))
        return (drawn * (np.nan if "infinite" in text else 1)).astype(np.float16)


class ServedHashEncoder(HashEncoder):
    """The same as a server takes it."""

    capabilities = frozenset({"encodes"})
    alive = True

    def submit_texts(
        self,
        texts: Sequence[str],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[NDArray[np.float16]]":
        return resolved(self.encode(texts, truncation=truncation))

    def counts(self) -> ModelCounts:
        return ModelCounts({})

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        pass

    def close(self, grace_s: float = 0.0) -> None:
        pass
