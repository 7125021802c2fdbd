"""Bytes of tokens in each element type: what is stored, what is read of it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.effort import scale
from support.token_samples import ENCODER, HASH


def test_int8_has_a_scale_a_token_and_half_the_bytes_of_float16() -> None:
    spec = TokenSpec(2, 384, "int8")
    assert (spec.nbytes, spec.read_nbytes) == (2 * 4 + 2 * 384, 2 * 2 * 384)
    small = TokenSpec(2, 2, "int8")
    rows = small.pack(np.array([[[127, -64], [0, 0.5]]], np.float16))
    assert rows.tobytes() == np.array([1, 0.5 / 127], "<f4").tobytes() + bytes([127, 192, 0, 127])
    np.testing.assert_array_equal(small.unpack(rows), np.array([[[127, -64], [0, 0.5]]], np.float16))


def test_int8_is_within_half_a_level_of_what_was_given() -> None:
    tokens = np.random.default_rng(0).normal(size=(50, 3, 64)).astype(np.float16)
    spec = TokenSpec(3, 64, "int8")
    read = spec.unpack(spec.pack(tokens))
    level = np.abs(tokens).max(axis=2, keepdims=True).astype(np.float32) / 127
    assert (np.abs(read.astype(np.float32) - tokens) <= 0.55 * level).all()
    assert read.dtype == np.float16


@settings(max_examples=scale(50))
@given(st.integers(0, 2**32 - 1), st.integers(-24, 12))
def test_int8_that_was_read_is_stored_as_the_same_bytes(seed: int, exponent: int) -> None:
    tokens = np.random.default_rng(seed).normal(size=(4, 2, 16)) * 2.0**exponent
    spec = TokenSpec(2, 16, "int8")
    rows = spec.pack(tokens.astype(np.float16))
    np.testing.assert_array_equal(spec.pack(spec.unpack(rows)), rows)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_are_stored_as_they_are(dtype: str) -> None:
    tokens = np.array([[[1.5, -2.25]], [[np.nan, np.inf]]], dtype)
    spec = TokenSpec(1, 2, dtype)
    assert spec.pack(tokens).tobytes() == tokens.tobytes()
    assert spec.unpack(spec.pack(tokens)).tobytes() == tokens.tobytes()


def test_lmdb_keeps_int8_and_what_is_put_in_front_of_it_is_the_same(tmp_path: Path) -> None:
    spec = TokenSpec(2, 4, "int8")
    tokens = np.linspace(-1, 1, 8, dtype=np.float16).reshape(2, 4)
    as_read = spec.as_read(tokens[None])[0]
    assert (as_read != tokens).any()
    with open_store(tmp_path, create=True) as store:
        namespace = store.namespace(ENCODER, spec, create=True)
        namespace.put_many([TokenEntry("a", tokens, HASH), TokenEntry("k" * 600, tokens, HASH)])
        with pytest.raises(InvalidRequest, match="'b' are not all finite"):
            namespace.put_many([TokenEntry("b", np.full((2, 4), np.inf, np.float16), HASH)])
    with open_store(tmp_path, read_only=True) as store:
        namespace = store.namespace(ENCODER)
        for keys in (["a"], ["a", "k" * 600]):
            for read in namespace.read(keys).tokens:
                np.testing.assert_array_equal(read, as_read)
        hot = HotTokens(namespace, 2**16)
        hot.put([TokenEntry("new", tokens, HASH)])
        np.testing.assert_array_equal(hot.read(["new"]).tokens[0], as_read)
        assert hot.counts().host_keys == 1
