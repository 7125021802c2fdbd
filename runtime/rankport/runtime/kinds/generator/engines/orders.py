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
        decoding = decoding.model_copy(update={"min_tokens": self._min_tokens(sampling)})
        constraints = Constraints(decoding, self._all_ends(sampling), self._max_tokens(sampling))
        width = self._width(sampling, decoding)
        if width == 1:
            _refuse_length_penalty(sampling)
            sampling_rules = SamplingRules.of(sampling, self._generation)  # the constraints know of ends
            sampler = ConstrainedSampler(sampling_rules, sampling.seed, constraints)
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
        rules = SamplingRules.of(
            sampling, self._generation, self._all_ends(sampling), self._min_tokens(sampling)
        )
        if matcher is None:
            return Sampler(rules, sampling.seed, prompt)
        return GrammarSampler(rules, sampling.seed, prompt, matcher)

    def _text(self, sampling: Sampling, sampler: Sampler, on_part: OnPart | None) -> TextOrder:
        return TextOrder(
            sampler=sampler,
            writer=None
            if self._tokenizer is None
            else Writer(self._tokenizer, sampling.stop, self._min_tokens(sampling)),
            stop_ids=frozenset(self._ends(sampling)),
            max_tokens=self._max_tokens(sampling),
            logprobs=sampling.logprobs,
            top_logprobs=int(sampling.top_logprobs),
            on_part=on_part,
        )

    def _check(self, sampling: Sampling) -> None:
        wanted, most = self._max_tokens(sampling), self._manifest.limits.max_item_tokens
        if wanted > most:
            raise LimitExceeded(f"max_tokens is {wanted}: the bundle writes at most {most} (max_item_tokens)")
        if sampling.min_tokens is not None and sampling.min_tokens > wanted:
            raise InvalidRequest(
                f"min_tokens is {sampling.min_tokens}: the text has at most {wanted} (max_tokens)"
            )
        if sampling.stop and self._tokenizer is None:
            raise InvalidRequest("stop has texts, and the bundle has no tokenizer: give stop_ids")
        vocabulary = self._manifest.shape.vocab_size
        biased = [token for token, _ in sampling.logit_bias]  # type: ignore[misc]  # pairs by now
        for name, tokens in (("stop_ids", sampling.stop_ids), ("logit_bias", biased)):
            for token in tokens:
                if not 0 <= token < vocabulary:
                    raise InvalidRequest(f"{name} has {token}: tokens are 0 to {vocabulary - 1}")

    def _ends(self, sampling: Sampling) -> tuple[int, ...]:
        """Lists the tokens that end a text."""
        return tuple(sampling.stop_ids) if sampling.ignore_eos else self._all_ends(sampling)

    def _all_ends(self, sampling: Sampling) -> tuple[int, ...]:
        """Lists the tokens that may not come too soon: those that are ignored later too, as vLLM has it."""
        return tuple(dict.fromkeys((*self._generation.stop_ids, *sampling.stop_ids)))

    def _min_tokens(self, sampling: Sampling) -> int:
        if sampling.min_tokens is not None:
            return int(sampling.min_tokens)
        decoding = self._generation.decoding
        return self._generation.min_tokens if decoding is None else decoding.min_tokens

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
        ("presence_penalty", bool(sampling.presence_penalty)),
        ("frequency_penalty", bool(sampling.frequency_penalty)),
        ("logit_bias", bool(sampling.logit_bias)),
        ("ignore_eos", sampling.ignore_eos),
    ):
        if given:
            raise InvalidRequest(
                f"{name} is not told of texts that {width} beams find: say beams = 1, or leave it out"
            )


def _refuse_length_penalty(sampling: Sampling) -> None:
    if sampling.length_penalty not in (None, 1.0):  # which clients say whatever they want
        raise InvalidRequest(
            f"length_penalty is {sampling.length_penalty:g}, and the text is found by no beams: leave it out, or say "
            "beams"
        )


def _or(said: float | None, otherwise: float) -> float:
    return otherwise if said is None else float(said)
