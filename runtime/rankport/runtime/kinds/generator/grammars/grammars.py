"""Grammars: texts that must be JSON by a schema, or match a pattern.

Owns what is asked of llguidance, and which grammars are kept. JSON is written as Python's `json.dumps` writes it: ", ",
": ", no other whitespace.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.protos.installed.extras import extras_named
from rankport.runtime.kinds.generator.grammars.matcher import Matcher, cannot_be_followed, one_line
from rankport.runtime.kinds.generator.grammars.trial import GrammarTrial
from rankport.runtime.prompt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

KEPT = 16
"""Grammars whose next text begins without compiling them."""


class Grammar(NamedTuple):
    """Form that a request asks for: a schema or pattern, and the argument that it is."""

    text: str
    where: Literal["json_schema", "regex"]

    @classmethod
    def of(cls, sampling: Sampling) -> "Grammar | None":
        """Finds what a request asks for; None: any text."""
        if sampling.regex is not None:
            return cls(sampling.regex, "regex")
        return None if sampling.json_schema is None else cls(str(sampling.json_schema), "json_schema")

    def in_words(self) -> str:
        """Writes it as the library reads it. Raises `InvalidRequest` for what is no schema."""
        from llguidance import LLMatcher

        if self.where == "regex":
            return str(LLMatcher.grammar_from_regex(self.text))
        try:
            return str(
                LLMatcher.grammar_from_json_schema(
                    self.text,
                    overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
                )
            )
        except ValueError as error:
            raise InvalidRequest(cannot_be_followed(self.where, str(error))) from error


class Grammars:
    """Grammars over one bundle's tokens. Any thread may ask."""

    def __init__(self, tokenizer: Tokenizer | None, vocabulary: int, stop_ids: Sequence[int]) -> None:
        self._source, self._vocabulary, self._stop_ids = tokenizer, vocabulary, list(stop_ids)
        self._made: LLTokenizer | None = None  # from the first text with a grammar on
        self._making = threading.Lock()
        self._trial = GrammarTrial()
        self._kept: OrderedDict[Grammar, Matcher | str] = OrderedDict()  # a text says why one is refused
        self._lock = threading.Lock()  # guards `_kept`

    def takes_long(self, sampling: Sampling) -> bool:
        """Says whether `matcher` would compile a grammar, for up to seconds."""
        grammar = Grammar.of(sampling)
        return grammar is not None and self._known(grammar) is None

    def matcher(self, sampling: Sampling) -> Matcher | None:
        """Begins a text of the form that a request asks for; None: it asks for none.

        Raises `InvalidRequest` for a schema or pattern that cannot be followed, or a tokenizer that the library has no
        way with; `MissingExtra` where the library is not installed; as `GrammarTrial.fault`.
        """
        grammar = Grammar.of(sampling)
        if grammar is None:
            return None
        known = self._known(grammar)
        if known is None:
            known = self._compiled(grammar)
            with self._lock:
                self._kept[grammar] = known
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        if isinstance(known, str):
            raise InvalidRequest(known)
        return known.copy()

    def close(self) -> None:
        """Ends what is being compiled."""
        self._trial.close()

    def _known(self, grammar: Grammar) -> Matcher | str | None:
        with self._lock:
            known = self._kept.get(grammar)
            if known is not None:
                self._kept.move_to_end(grammar)
        return known

    def _compiled(self, grammar: Grammar) -> Matcher | str:
        """Gives the beginning of its texts, or says why there are none."""
        with extras_named(grammar.where):
            from llguidance import LLMatcher

        tokenizer = self._tokenizer()
        try:
            words = grammar.in_words()
            fault = self._trial.fault(words)
            if fault:
                return cannot_be_followed(grammar.where, fault)
            matcher = Matcher(LLMatcher(tokenizer, words, log_level=0), grammar.where)
            matcher.allowed(self._vocabulary)  # what the engine's thread need not wait for
            matcher.check()
        except InvalidRequest as error:
            return str(error)
        return matcher

    def _tokenizer(self) -> "LLTokenizer":
        with self._making:
            if self._made is None:
                self._made = self._converted()
            return self._made

    def _converted(self) -> "LLTokenizer":
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
                f"{one_line(str(error))}"
            ) from error
