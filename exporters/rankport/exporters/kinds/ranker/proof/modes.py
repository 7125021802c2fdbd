"""The modes in which a ranker bundle serves, and its differences from its source in each.

Owns the modes. How two sets of logits are compared, `proof.compare` knows; the sample of requests comes from `samples`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from rankport.exporters.proof.compare import Logits, RankValues, compare, first_label
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch, PrefixKV
from rankport.runtime.bundle.manifest import ModeParity
from rankport.runtime.kinds.ranker.read_position import up_to_read_token
from rankport.runtime.tokens import TokenRun, TokenRuns


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One prefix and its items, as tokens; `form` tells text items from embedding-token items."""

    prefix: TokenRun
    items: tuple[TokenRun, ...]
    form: str  # "text" | "embeddings"

    def as_read(self, pad_token: int | None) -> "SampleRequest":
        """Gives the request as a `Ranker` has it computed: items up to the token at which they are read."""
        items = up_to_read_token(TokenRuns.of(self.items), pad_token, np.arange(len(self.items)))
        return replace(self, items=tuple(items))


def measure(
    backend: PrefixBackend, expected: Sequence[Logits], requests: Sequence[SampleRequest]
) -> list[ModeParity]:
    """Measures the differences in each mode and item form. `expected` are the source's logits, one array a request."""
    return compare_modes(expected, requests, answers_by_mode(backend, requests))


def answers_by_mode(
    backend: PrefixBackend,
    requests: Sequence[SampleRequest],
    on_mode: Callable[[str], None] = lambda mode: None,
) -> dict[str, list[Logits]]:
    """Answers the requests of each item form in each mode. By "mode/form", one array a request of that form."""
    answers: dict[str, list[Logits]] = {}
    for form in dict.fromkeys(request.form for request in requests):
        of_form = [request for request in requests if request.form == form]
        for mode, run in MODES.items():
            on_mode(f"{mode}/{form}")
            answers[f"{mode}/{form}"] = run(backend, of_form)
    return answers


def compare_modes(
    expected: Sequence[Logits],
    requests: Sequence[SampleRequest],
    answers: Mapping[str, Sequence[Logits]],
    rank_values: RankValues = first_label,
) -> list[ModeParity]:
    """Compares answers with the source's logits, one array a request."""
    forms: dict[str, list[Logits]] = {}
    for request, logits in zip(requests, expected, strict=True):
        forms.setdefault(request.form, []).append(logits)
    return [
        compare(mode, forms[mode.partition("/")[2]], logits, rank_values) for mode, logits in answers.items()
    ]


def _full_sequence(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Reuses nothing: each prefix + item is one run on the empty prefix."""
    result = []
    for request in requests:
        runs = tuple(_join(request.prefix, item) for item in request.items)
        result.append(backend.score(PrefixBatch.of(((),), runs, np.zeros(len(runs), np.int64))))
    return result


def _prefix_reuse(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Computes the prefix once, all items of the request in one pass."""
    return [_score(backend, _prefill(backend, request.prefix, 1), request.items) for request in requests]


def _prefix_extension(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Computes the prefix in three pieces, each continuing the one before; the first split afterwards, if it can be."""
    result = []
    for request in requests:
        pieces = _prefill(backend, request.prefix, 3)
        if backend.split is not None and pieces and pieces[0].length > 1:
            pieces = (*backend.split(pieces[0], 1), *pieces[1:])
        result.append(_score(backend, pieces, request.items))
    return result


def _one_item(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Scores each item in a pass of its own."""
    result = []
    for request in requests:
        pieces = _prefill(backend, request.prefix, 1)
        result.append(np.concatenate([_score(backend, pieces, (item,)) for item in request.items]))
    return result


def _many_prefixes(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Puts several requests into one pass, prefilled together, padded to the longest prefix and item.

    The last request, the longest, shares its pass with a few short items only: beside all of them the padding alone
    would need many times the memory of the model.
    """
    if len(requests) < 3:
        return _one_pass(backend, requests)
    *short, longest = requests
    beside = replace(short[-1], items=short[-1].items[:2])
    return [*_one_pass(backend, short), _one_pass(backend, [beside, longest])[1]]


def _one_pass(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    pieces = prefill_together(backend, [request.prefix for request in requests])
    items = tuple(item for request in requests for item in request.items)
    counts = [len(request.items) for request in requests]
    logits = backend.score(PrefixBatch.of(tuple(pieces), items, np.repeat(np.arange(len(requests)), counts)))
    return np.split(logits, np.cumsum(counts)[:-1])


def prefill_together(backend: PrefixBackend, prefixes: Sequence[TokenRun]) -> list[tuple[PrefixKV, ...]]:
    """Computes the KV of several prefixes in one pass. An empty one has none."""
    pieces: list[tuple[PrefixKV, ...]] = [() for _ in prefixes]
    filled = [i for i, prefix in enumerate(prefixes) if len(prefix.ids)]
    if filled:
        runs = tuple(prefixes[i] for i in filled)
        empty: tuple[tuple[PrefixKV, ...], ...] = tuple(() for _ in filled)
        computed = backend.prefill(PrefixBatch.of(empty, runs, np.arange(len(filled))))
        for i, kv in zip(filled, computed, strict=True):
            pieces[i] = (kv,)
    return pieces


MODES: Mapping[str, Callable[[PrefixBackend, Sequence[SampleRequest]], list[Logits]]] = MappingProxyType(
    {
        "full_sequence": _full_sequence,
        "prefix_reuse": _prefix_reuse,
        "prefix_extension": _prefix_extension,
        "one_item": _one_item,
        "many_prefixes": _many_prefixes,
    }
)


def _prefill(backend: PrefixBackend, prefix: TokenRun, pieces: int) -> tuple[PrefixKV, ...]:
    done: tuple[PrefixKV, ...] = ()
    for part in np.array_split(prefix.ids, pieces):
        if len(part):
            done += backend.prefill(PrefixBatch.of((done,), (TokenRun(part),), np.zeros(1, np.int64)))
    return done


def _score(backend: PrefixBackend, pieces: tuple[PrefixKV, ...], items: tuple[TokenRun, ...]) -> Logits:
    return backend.score(PrefixBatch.of((pieces,), items, np.zeros(len(items), np.int64)))


def _join(prefix: TokenRun, item: TokenRun) -> TokenRun:
    return TokenRun(np.concatenate([prefix.ids, item.ids]), item.embeddings)
