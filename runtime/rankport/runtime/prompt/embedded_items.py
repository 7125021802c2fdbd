"""`EmbeddedItems`: tokens of items that are embedding tokens, around which a bundle's prompt puts literal ones.

Such items have the same ids and differ in their rows only: those of a request are the first ones of any larger one.
"""

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.manifest import Embedding
from rankport.runtime.prompt.item_template import ItemTemplate
from rankport.runtime.tokens import EMBEDDED, TableRows, TokenRuns

_AT_FIRST = 256


class EmbeddedItems:
    """Items of one form of embedding tokens. Any thread may ask."""

    def __init__(self, item: ItemTemplate, form: Embedding) -> None:
        """Puts the prompt's tokens around. Raises `BundleError` if an item exceeds the limit."""
        template, limit = item.template, item.template.limit
        if form.tokens > template.room:
            raise BundleError(
                f"embedding.tokens: {form.tokens} and the prompt's {limit.tokens - template.room} literal tokens "
                f"exceed {limit.name} {limit.tokens}"
            )
        self.form = form
        self._ids = item.around(np.full(form.tokens, EMBEDDED, np.int64))
        self._most = self._made(_AT_FIRST)

    def runs(
        self, count: int, blocks: tuple[NDArray[np.floating], ...] = (), table: TableRows | None = None
    ) -> TokenRuns:
        """Makes the runs of so many items, whose rows are in `blocks` or in a device's table."""
        most = self._most
        if count > len(most):
            most = self._most = self._made(2 * count)
        assert most.embedded is not None
        ids = most.ids[: count * len(self._ids)]
        return TokenRuns(ids, most.offsets[: count + 1], most.embedded[: count + 1], blocks, table)

    def _made(self, count: int) -> TokenRuns:
        """Makes so many, to be shared, so read-only."""
        steps = np.arange(count + 1)
        arrays = np.tile(self._ids, count), steps * len(self._ids), steps * self.form.tokens
        for array in arrays:
            array.setflags(write=False)
        return TokenRuns(*arrays)
