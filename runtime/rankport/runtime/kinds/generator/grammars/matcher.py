"""One text in its grammar: llguidance says which tokens may come next, the sampler chooses of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.kinds.generator.texts.adjustments import Logits
from rankport.runtime.kinds.generator.texts.sampler import Sampler, SamplingRules

if TYPE_CHECKING:
    from llguidance import LLMatcher


class GrammarSampler(Sampler):
    """Sampler of a text that a grammar allows."""

    def __init__(
        self, rules: SamplingRules, seed: int | None, prompt: Sequence[int], matcher: "Matcher"
    ) -> None:
        super().__init__(rules, seed, prompt)
        self._matcher = matcher

    def draw(self, logits: Logits) -> int:
        """Draws of the tokens that may come next. Raises `BackendError` where there is none."""
        allowed = self._matcher.allowed(len(logits))
        if not allowed.any():
            raise BackendError("no token of the vocabulary goes on with what the grammar asks for")
        token = super().draw(np.where(allowed, logits, np.float32(-np.inf)))
        self._matcher.take(token)
        return token

    @property
    def needs_all(self) -> bool:
        return True

    @property
    def ended(self) -> bool:
        return self._matcher.ended


class Matcher:
    """State of one text in its grammar."""

    def __init__(self, inner: "LLMatcher", where: str) -> None:
        """Raises `InvalidRequest` for a grammar that the library refuses, saying `where` it is from."""
        self._inner, self._where = inner, where
        self.check()

    def check(self) -> None:
        """Raises `InvalidRequest` where the library has given up."""
        if self._inner.is_error():
            raise InvalidRequest(cannot_be_followed(self._where, self._inner.get_error()))

    def copy(self) -> "Matcher":
        """Begins another text from the same state."""
        return Matcher(self._inner.deep_copy(), self._where)

    @property
    def ended(self) -> bool:
        """True when the text is whole and nothing may follow."""
        return self._inner.is_stopped()

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """Says which tokens may come next. [vocabulary]"""
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        found = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(np.bool_)
        return np.pad(found, (0, vocabulary - len(found)))

    def take(self, token: int) -> None:
        """Goes on by a token that was allowed. Raises `BackendError` where the library gives up."""
        if not self._inner.consume_token(token):
            raise BackendError(f"the grammar cannot go on: {one_line(self._inner.get_error())}")


def cannot_be_followed(where: str, why: str) -> str:
    """Tells that a grammar is refused."""
    return f"{where} cannot be followed: {one_line(why)}"


def one_line(text: str) -> str:
    """Gives the beginning of what the library says, on one line."""
    return " ".join(text.split())[:300]
