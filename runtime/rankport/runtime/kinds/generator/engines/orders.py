"""`Orders`: what a request says of a text, checked against the bundle, and the bundle's word for the rest."""

from collections.abc import Sequence
from functools import partial

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Decoding, Manifest
from rankport.runtime.kinds.generator.grammars.grammars import Grammars
from rankport.runtime.kinds.generator.grammars.matcher import GrammarSampler
from rankport.runtime.kinds.generator.seq2seq.beams import BeamRules, BeamSearch
from rankport.runtime.kinds.generator.seq2seq.constraints import ConstrainedSampler, Constraints
from rankport.runtime.kinds.generator.seq2seq.requests import BeamOrder
from rankport.runtime.kinds.generator.texts.sampler import Sampler, SamplingRules
from rankport.runtime.kinds.generator.texts.text import OnPart, TextOrder
from rankport.runtime.kinds.generator.texts.writer import Writer
from rankport.runtime.prompt.tokenizer import Tokenizer


class Orders:
    """Orders of texts by one bundle."""

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer | None) -> None:
        assert manifest.generation is not None
        self._manifest, self._generation = manifest, manifest.generation
        self._tokenizer = tokenizer
        vocabulary = manifest.shape.vocab_size
        self._grammars = Grammars(tokenizer, vocabulary, self._generation.stop_ids)

    def takes_long(self, sampling: Sampling) -> bool:
        """Says whether `order` would compile a grammar first, for up to seconds."""
        return self._generation.decoding is None and self._grammars.takes_long(sampling)

    def close(self) -> None:
        """Ends what is being compiled."""
        self._grammars.close()

    def order(
        self, sampling: Sampling, prompt: Sequence[int], on_part: OnPart | None
    ) -> TextOrder | BeamOrder:
        """Makes the order of a text behind a prompt.

        Raises `LimitExceeded` for too many tokens, `InvalidRequest` for what the bundle has not.
        """
        self._check(sampling)
        decoding = self._generation.decoding
        if decoding is None:
            _refuse_beams(sampling, self._manifest)
            return self._text(sampling, self._sampler(sampling, prompt), on_part)
        _refuse_grammar(sampling, self._manifest)
        constraints = Constraints(decoding, tuple(self._ends(sampling)), self._max_tokens(sampling))
        width = self._width(sampling, decoding)
        if width == 1:
            sampler = ConstrainedSampler(self._rules(sampling), sampling.seed, constraints)
            return self._text(sampling, sampler, on_part)
        _check_beams(sampling, width)
        rules = BeamRules(
            width=width,
            length_penalty=_or(sampling.length_penalty, decoding.length_penalty),
            early_stopping=decoding.early_stopping,
            repetition_penalty=_or(sampling.repetition_penalty, self._generation.repetition_penalty),
        )
        return BeamOrder(
            search=BeamSearch(rules, constraints),
            new_writer=None if self._tokenizer is None else partial(Writer, self._tokenizer, ()),
            on_part=on_part,
        )

    def _sampler(self, sampling: Sampling, prompt: Sequence[int]) -> Sampler:
        matcher = self._grammars.matcher(sampling)
        if matcher is None:
            return Sampler(self._rules(sampling), sampling.seed, prompt)
        return GrammarSampler(self._rules(sampling), sampling.seed, prompt, matcher)

    def _text(self, sampling: Sampling, sampler: Sampler, on_part: OnPart | None) -> TextOrder:
        return TextOrder(
            sampler=sampler,
            writer=None if self._tokenizer is None else Writer(self._tokenizer, sampling.stop),
            stop_ids=frozenset(self._ends(sampling)),
            max_tokens=self._max_tokens(sampling),
            logprobs=sampling.logprobs,
            on_part=on_part,
        )

    def _check(self, sampling: Sampling) -> None:
        wanted, most = self._max_tokens(sampling), self._manifest.limits.max_item_tokens
        if wanted > most:
            raise LimitExceeded(f"max_tokens is {wanted}: the bundle writes at most {most} (max_item_tokens)")
        if sampling.stop and self._tokenizer is None:
            raise InvalidRequest("stop has texts, and the bundle has no tokenizer: give stop_ids")
        vocabulary = self._manifest.shape.vocab_size
        for token in sampling.stop_ids:
            if not 0 <= token < vocabulary:
                raise InvalidRequest(f"stop_ids has {token}: tokens are 0 to {vocabulary - 1}")

    def _rules(self, sampling: Sampling) -> SamplingRules:
        return SamplingRules.of(sampling, self._generation)

    def _ends(self, sampling: Sampling) -> list[int]:
        return list(dict.fromkeys((*self._generation.stop_ids, *sampling.stop_ids)))

    def _max_tokens(self, sampling: Sampling) -> int:
        return most_tokens(sampling, self._manifest)

    def _width(self, sampling: Sampling, decoding: Decoding) -> int:
        """Counts the beams: one where the request says that tokens are drawn, and says no beams."""
        if sampling.beams is not None:
            return int(sampling.beams)
        return 1 if sampling.temperature else decoding.beams


def most_tokens(sampling: Sampling, manifest: Manifest) -> int:
    """Counts the tokens that a text may have by what was said of it."""
    most = manifest.limits.max_item_tokens
    return most if sampling.max_tokens is None else int(sampling.max_tokens)


def _refuse_beams(sampling: Sampling, manifest: Manifest) -> None:
    for name in ("beams", "length_penalty"):
        if getattr(sampling, name) is not None:
            raise InvalidRequest(
                f"{name}: bundle {manifest.name!r} of kind {manifest.kind} writes token by token, and finds no beams "
                "of its own: leave it out, or search a trie"
            )


def _refuse_grammar(sampling: Sampling, manifest: Manifest) -> None:
    for name in ("json_schema", "regex"):
        if getattr(sampling, name) is not None:
            raise InvalidRequest(
                f"{name}: bundle {manifest.name!r} of kind {manifest.kind} writes by no grammar: leave it out"
            )


def _check_beams(sampling: Sampling, width: int) -> None:
    """Refuses what goes with one text at a time alone."""
    for name, given in (
        ("temperature", bool(sampling.temperature)),
        ("stop", bool(sampling.stop)),
        ("logprobs", sampling.logprobs),
    ):
        if given:
            raise InvalidRequest(
                f"{name} is not told of texts that {width} beams find: say beams = 1, or leave it out"
            )


def _or(said: float | None, otherwise: float) -> float:
    return otherwise if said is None else float(said)
