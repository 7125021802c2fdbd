"""Grammars: texts that must be JSON by a schema, or match a pattern; llguidance says which tokens may come next.

Owns what is asked of that library. JSON is written as Python's `json.dumps` writes it: ", ", ": ", no other whitespace.
"""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.protos.extras import extras_named
from rankport.protos.generation import Sampling
from rankport.runtime.kinds.generator.sampler import Logits, Sampler, SamplingRules
from rankport.runtime.prompt.tokenizer import Tokenizer


class GrammarSampler(Sampler):
    """Sampler of a text that a grammar allows. `matcher` is an `llguidance.LLMatcher`."""

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

    def __init__(self, tokenizer: object, grammar: str, where: str) -> None:
        """Raises `InvalidRequest` for a grammar that the library refuses, saying `where` it is from."""
        from llguidance import LLMatcher, LLTokenizer

        assert isinstance(tokenizer, LLTokenizer)
        self._inner = LLMatcher(tokenizer, grammar, log_level=0)
        if self._inner.is_error():
            raise InvalidRequest(f"{where} cannot be followed: {_one_line(self._inner.get_error())}")

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
            raise BackendError(f"the grammar cannot go on: {_one_line(self._inner.get_error())}")


class Grammars:
    """Grammars over one bundle's tokens. Any thread may ask."""

    def __init__(self, tokenizer: Tokenizer | None, vocabulary: int, stop_ids: Sequence[int]) -> None:
        self._source, self._vocabulary, self._stop_ids = tokenizer, vocabulary, list(stop_ids)
        self._made: object = None  # the library's tokenizer, from the first text with a grammar on
        self._lock = threading.Lock()

    def matcher(self, sampling: Sampling) -> Matcher | None:
        """Begins a text of the form that a request asks for; None: it asks for none.

        Raises `InvalidRequest` for a schema or pattern that cannot be followed, or a tokenizer that the library has no
        way with; `MissingExtra` where the library is not installed.
        """
        if sampling.json_schema is None and sampling.regex is None:
            return None
        with extras_named("json_schema" if sampling.regex is None else "regex"):
            from llguidance import LLMatcher
        tokenizer = self._tokenizer()
        if sampling.regex is not None:
            return Matcher(tokenizer, LLMatcher.grammar_from_regex(sampling.regex), "regex")
        try:
            grammar = LLMatcher.grammar_from_json_schema(
                str(sampling.json_schema),
                overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
            )
        except ValueError as error:
            raise InvalidRequest(f"json_schema cannot be followed: {_one_line(str(error))}") from error
        return Matcher(tokenizer, grammar, "json_schema")

    def _tokenizer(self) -> object:
        with self._lock:
            if self._made is None:
                self._made = self._converted()
            return self._made

    def _converted(self) -> object:
        from llguidance import LLTokenizer

        if self._source is None:
            raise InvalidRequest("json_schema and regex are of text, and the bundle has no tokenizer")
        try:
            return LLTokenizer(
                self._source.as_json(), n_vocab=self._vocabulary, eos_token=self._stop_ids or None
            )
        except Exception as error:  # the library raises bare ones
            raise InvalidRequest(
                "json_schema and regex: llguidance reads byte-level and SentencePiece tokenizers, not the bundle's: "
                f"{_one_line(str(error))}"
            ) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
