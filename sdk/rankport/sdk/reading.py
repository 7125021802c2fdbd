"""Calls of both clients to models that read texts: classifiers, taggers, encoders and what they stored."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.messages import class_wire, sparse_wire, tag_wire, wire
from rankport.protos.priorities import Priority
from rankport.protos.sparse import SparseRows
from rankport.protos.tagging import TagResult, TagTexts, TagTruncation
from rankport.protos.types import LookupResult, Prefix, Side, Truncation
from rankport.sdk._remote import Text
from rankport.sdk.calls import Calls, CallsInLoops


class Reads(Calls):
    """Calls of the client that blocks."""

    def classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> ClassifyResult:
        """Tells the labels of texts or pairs. Arguments, result and errors are those of `Classifier.classify`."""
        timeout_s = self._timeout(timeout_s)
        request = class_wire.classify_request(self._model, texts, prefix, truncation)
        response = self._answer(lambda to: to.classification.Classify, request, timeout_s, priority)
        return class_wire.classify_result(response)

    def tag(
        self,
        texts: Iterable[str | Sequence[str]],
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
        priority: Priority | None = None,
    ) -> TagResult:
        """Finds the spans of texts, or of texts as lists of words. As `Tagger.tag`."""
        timeout_s = self._timeout(timeout_s)
        given = TagTexts.of(texts)
        request = tag_wire.tag_request(self._model, given, truncation, stride)
        response = self._answer(lambda to: to.tagging.Tag, request, timeout_s, priority)
        return tag_wire.tag_result(response, given)

    def encode(
        self,
        texts: Iterable[Text],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
        fingerprint: str | None = None,
        priority: Priority | None = None,
    ) -> NDArray[np.floating]:
        """Encodes texts to tokens [texts, k, hidden], float16 or float32. As `ItemEncoder.encode`, and
        `Towers.encode`, which reads them as items unless `side` says query. With the `fingerprint` of a bundle,
        as `describe` tells it, `PairingError` where a name has come to mean another one.
        """
        timeout_s = self._timeout(timeout_s)
        request = wire.encode_request(self._model, texts, truncation, side)
        response = self._answer(lambda to: to.embedding.Encode, request, timeout_s, priority)
        return wire.encode_result(response, fingerprint)

    def encode_sparse(
        self,
        texts: Iterable[Text],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
        fingerprint: str | None = None,
        priority: Priority | None = None,
    ) -> SparseRows:
        """Encodes texts to weights of the vocabulary, without zeros. As `Towers.encode_sparse`, and `fingerprint` as of
        `encode`.
        """
        timeout_s = self._timeout(timeout_s)
        request = wire.encode_request(self._model, texts, truncation, side)
        response = self._answer(lambda to: to.embedding.EncodeSparse, request, timeout_s, priority)
        return sparse_wire.sparse_result(response, fingerprint)

    def lookup(
        self, keys: Iterable[str], timeout_s: float | None = None, *, priority: Priority | None = None
    ) -> LookupResult:
        """Looks up the tokens of keys in the store that the model reads. A key that is not there says so."""
        request, left_s = wire.lookup_request(self._model, keys), self._timeout(timeout_s)
        return wire.lookup_result(self._answer(lambda to: to.embedding.Lookup, request, left_s, priority))


class ReadsInLoops(CallsInLoops):
    """Calls of the asyncio client."""

    async def classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> ClassifyResult:
        """Classifies as `Client.classify`."""
        timeout_s = self._timeout(timeout_s)
        request = class_wire.classify_request(self._model, texts, prefix, truncation)
        response = await self._answer(lambda to: to.classification.Classify, request, timeout_s, priority)
        return class_wire.classify_result(response)

    async def tag(
        self,
        texts: Iterable[str | Sequence[str]],
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
        priority: Priority | None = None,
    ) -> TagResult:
        """Tags as `Client.tag`."""
        timeout_s = self._timeout(timeout_s)
        given = TagTexts.of(texts)
        request = tag_wire.tag_request(self._model, given, truncation, stride)
        response = await self._answer(lambda to: to.tagging.Tag, request, timeout_s, priority)
        return tag_wire.tag_result(response, given)

    async def encode(
        self,
        texts: Iterable[Text],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
        fingerprint: str | None = None,
        priority: Priority | None = None,
    ) -> NDArray[np.floating]:
        """Encodes as `Client.encode`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.encode_request(self._model, texts, truncation, side)
        response = await self._answer(lambda to: to.embedding.Encode, request, timeout_s, priority)
        return wire.encode_result(response, fingerprint)

    async def encode_sparse(
        self,
        texts: Iterable[Text],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
        fingerprint: str | None = None,
        priority: Priority | None = None,
    ) -> SparseRows:
        """Encodes as `Client.encode_sparse`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.encode_request(self._model, texts, truncation, side)
        response = await self._answer(lambda to: to.embedding.EncodeSparse, request, timeout_s, priority)
        return sparse_wire.sparse_result(response, fingerprint)

    async def lookup(
        self, keys: Iterable[str], timeout_s: float | None = None, *, priority: Priority | None = None
    ) -> LookupResult:
        """Looks up as `Client.lookup`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.lookup_request(self._model, keys)
        return wire.lookup_result(
            await self._answer(lambda to: to.embedding.Lookup, request, timeout_s, priority)
        )
