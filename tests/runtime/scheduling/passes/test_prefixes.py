"""Prefixes are kept under their tokens and the very embeddings among them."""

import numpy as np

from rankport.runtime.scheduling.passes.prefixes import prefix_key
from rankport.runtime.tokens import EMBEDDED, TokenRun


def test_prefix_keys_tell_embeddings_apart_and_are_negative() -> None:
    rows = np.array([[1, 2], [1, 3], [1, 2]], np.float32)
    key = prefix_key(TokenRun(np.array([5, EMBEDDED, EMBEDDED, EMBEDDED], np.int64), rows))
    assert key[0] == 5
    assert key[1] == key[3] != key[2]
    assert (key[1:] < EMBEDDED).all()
