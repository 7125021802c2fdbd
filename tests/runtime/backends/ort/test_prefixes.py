"""Items behind a prefix on the CPU, each by itself."""

from contextlib import closing

import numpy as np
import pytest

from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import EMBEDDED, TokenRun


@pytest.mark.parametrize("broken", [0, 1])
def test_an_item_whose_numbers_are_none_leaves_those_of_others_as_they_are(
    broken: int, mix_bundle: Bundle
) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 1, mix_bundle.manifest.shape.hidden_size), np.float32)

    def items() -> list[TokenRun]:
        return [TokenRun(np.array([EMBEDDED, *[7] * place]), row) for place, row in enumerate(rows)]

    with closing(load_prefix_backend(mix_bundle, EngineConfig(threads=1))) as backend:
        one = [TokenRun(np.arange(5, 15))]
        pieces = backend.prefill(PrefixBatch.of([()], one, np.zeros(1, np.int64)))
        for prefixes, owner in (([pieces], [0, 0, 0, 0]), ([pieces, ()], [0, 0, 1, 1])):
            right = backend.score(PrefixBatch.of(prefixes, items(), np.array(owner)))
            kept, rows[broken] = rows[broken].copy(), np.nan
            given = backend.score(PrefixBatch.of(prefixes, items(), np.array(owner)))
            rows[broken] = kept
            others = np.arange(4) != broken
            assert np.isnan(given[broken]).all()
            np.testing.assert_array_equal(given[others], right[others])
