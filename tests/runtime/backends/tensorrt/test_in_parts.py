"""A backend in parts answers as the whole, whatever its profiles take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.backends.contract import PrefixBatch, PrefixKV
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import axes_of, pack
from rankport.runtime.backends.tensorrt.in_parts import BackendInParts, halves
from rankport.runtime.backends.tensorrt.profiles import Profile, SizeRange
from rankport.runtime.tokens import TokenRun
from support.effort import scale
from support.reference_backend import ReferenceBackend, token_run


def profile(**most: int) -> Profile:
    return Profile(
        name="p", axes={name: SizeRange(min=0, opt=0, max=size) for name, size in most.items()}, values={}
    )


def in_parts(**most: int) -> BackendInParts:
    return BackendInParts(ReferenceBackend(), {"prefix": [profile(**most)], "score": [profile(**most)]})


def batch(kvs: tuple[tuple[PrefixKV, ...], ...], counts: list[int]) -> PrefixBatch:
    """So many runs a prefix, of lengths 1, 2, 3, 1, ..."""
    runs: list[TokenRun] = []
    for _ in range(sum(counts)):
        start = 3 * len(runs)
        runs.append(token_run(*(token % 50 for token in range(start, start + 1 + len(runs) % 3))))
    return PrefixBatch.of(kvs, tuple(runs), np.repeat(np.arange(len(counts)), counts))


@settings(max_examples=scale(40))
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 8))
def test_scores_and_prefixes_are_those_of_one_pass(
    counts: list[int], prefixes: int, items_total: int
) -> None:
    whole, parts = ReferenceBackend(), in_parts(prefixes=prefixes, items_total=items_total)
    starts = batch(tuple(() for _ in counts), [1] * len(counts))
    one, other = whole.prefill(starts), parts.prefill(starts)
    assert [kv.length for kv in one] == [kv.length for kv in other]
    expected = whole.score(batch(tuple((kv,) for kv in one), counts))
    scored = batch(tuple((kv,) for kv in other), counts)
    np.testing.assert_allclose(parts.score(scored), expected, rtol=1e-6)
    started = parts.start(scored)
    np.testing.assert_allclose(started.results(), expected, rtol=1e-6)


def test_a_batch_is_halved_between_prefixes_while_there_are_several() -> None:
    first, second = halves(batch(((), (), ()), [1, 5, 2]))
    assert [list(part.run_prefix) for part in (first, second)] == [[0, 1, 1, 1, 1, 1], [0, 0]]
    assert (len(first.prefixes), len(second.prefixes)) == (2, 1)
    one, rest = halves(batch(((),), [5]))
    assert (len(one.runs), len(rest.runs)) == (2, 3)


def test_the_axes_of_a_batch_are_those_it_is_packed_to() -> None:
    kvs = ReferenceBackend().prefill(batch(((), ()), [1, 1]))
    packed = pack(batch(((kvs[0],), (kvs[0], kvs[1])), [2, 3]), EmbeddingsForm(8))
    shapes = {name: value.shape for name, value in packed.inputs(packed.sizes).items()}
    axes = axes_of(packed.sizes)
    assert shapes["slots"] == (axes["prefixes"], axes["items"], axes["item_tokens"])
    assert shapes["input_ids"] == shapes["token_slots"] == (axes["tokens"],)
    assert shapes["last_tokens"] == (axes["items_total"],)
    assert shapes["embeddings"] == (axes["embedding_count"], 8)
    assert axes["past"] == packed.past_lengths.max()


def test_a_single_run_goes_as_it_is() -> None:
    parts = in_parts(tokens=1)
    (kv,) = parts.prefill(PrefixBatch.of(((),), (token_run(1, 2, 3),), np.zeros(1, np.int64)))
    assert kv.length == 3
    head, rest = parts.split(kv, 1)
    assert (head.length, rest.length) == (1, 2)
    parts.close()
    with pytest.raises(AssertionError):
        parts.prefill(PrefixBatch.of(((),), (token_run(1),), np.zeros(1, np.int64)))
