"""Tokens that a job keeps in another dtype than the encoder makes them in."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.protos.types import ModelDescription, Truncation
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.token_spec import TokenSpec
from support.hash_encoder import HashEncoder


def test_tokens_are_kept_in_the_dtype_asked_for_and_what_has_no_room_in_it_is_a_bad_row(
    store: TokenStore,
) -> None:
    class Wide(HashEncoder):
        """Encoder of float32, one of whose tokens float16 has no room for."""

        def describe(self) -> ModelDescription:
            return replace(super().describe(), embedding_dtype="float32")

        def encode(
            self, texts: Sequence[str], /, *, truncation: Truncation = "error"
        ) -> NDArray[np.floating]:
            rows = super().encode(texts, truncation=truncation).astype(np.float32)
            rows[[text == "large" for text in texts]] *= 1e6
            return rows

    encoder = Wide("wide", 2, 8)
    namespace = namespace_of(store, encoder, "int8", hidden=True)
    assert (namespace.spec, list(store.filling())) == (TokenSpec(2, 8, "int8"), ["wide"])
    rows = [ItemRow(1, "a", "small"), ItemRow(2, "b", "large")]
    report = run_encode_job(encoder, namespace, rows)
    assert [(row.id, row.reason) for row in report.first_bad_rows] == [
        ("b", "the encoder gave tokens that are not finite in float16")
    ]
    exact = encoder.encode(["small"]).astype(np.float16)
    np.testing.assert_array_equal(namespace.read(["a"]).tokens, namespace.spec.as_read(exact))


@pytest.mark.parametrize(
    ("kept", "asked", "way"),
    [
        ("int8", None, r"are \[2, 8\] int8, not \[2, 8\] float16: write them so \(--token-dtype int8\)"),
        (None, "int8", r"are \[2, 8\] float16, not \[2, 8\] int8: write them so \(--token-dtype float16\)"),
    ],
)
def test_another_dtype_than_the_store_has_is_told_with_the_way_out(
    store: TokenStore, kept: str | None, asked: str | None, way: str
) -> None:
    encoder = HashEncoder("one", 2, 8)
    namespace_of(store, encoder, kept)
    with pytest.raises(StoreError, match=way):
        namespace_of(store, encoder, asked)
