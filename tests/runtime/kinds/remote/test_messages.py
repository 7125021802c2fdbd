"""Runs of tokens as the columns of a message, and back."""

import numpy as np

from rankport.runtime.kinds.remote.messages import read_runs, runs_columns
from rankport.runtime.links.columns import Columns
from rankport.runtime.tokens import EMBEDDED, TableRows, TokenRun, TokenRuns

SENT = TokenRuns.of([TokenRun(np.array([EMBEDDED, 4]), np.ones((1, 3), np.float16))])


def crossed(runs: TokenRuns) -> TokenRuns:
    """Writes runs, and reads what came over a link."""
    sent = Columns(arrays=runs_columns("items", runs))
    body = [np.empty(0, np.uint8), *sent.body()]
    return read_runs("items", Columns.read(sent.head(), np.concatenate(body)).arrays)


def test_keys_cross_beside_embeddings_that_are_sent_whatever_their_letters() -> None:
    keys = ["a", "", "é\N{GRINNING FACE}", "\udc00", "\x00b", "a"]
    table = TableRows(np.arange(len(keys)), (object(),), keys)
    named = TokenRuns.of_lengths(np.tile([EMBEDDED, 7], len(keys)), [2] * len(keys), table=table)
    runs = crossed(TokenRuns.join([named, SENT]).take(np.array([6, 0, 2, 1, 3, 4, 5])))
    assert runs.table is not None
    assert list(runs.table.keys or ()) == keys
    np.testing.assert_array_equal(runs.table.rows, [-1, 0, 2, 1, 3, 4, 5])
    assert runs.sent == 1


def test_runs_without_keys_cross_as_they_are() -> None:
    runs = crossed(SENT)
    assert runs.table is None
    np.testing.assert_array_equal(runs.ids, SENT.ids)
    np.testing.assert_array_equal(runs.blocks[0], SENT.blocks[0])
