"""Rows in device memory, where passes gather them by number instead of being sent them: tokens, or rows of ids."""

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.backends.devices.graph import ITEM_BYTES, DeviceArray
from rankport.runtime.backends.devices.memory import Buffer, DeviceMemory, Side
from rankport.runtime.backends.devices.transfers.regions import Ring
from rankport.runtime.backends.layouts.sizes import rounded
from rankport.runtime.bundle.manifest import DType, Manifest
from rankport.runtime.config import EngineConfig


class DeviceTable:
    """One block [rows + sent rows, hidden] of a type that graphs take: what stays, then what is sent with a pass.

    The graph takes it as its `embeddings`, so its address and shape never change. Implements `TokenTable`.
    """

    def __init__(
        self,
        memory: DeviceMemory,
        rows: int,
        sent_rows: int,
        hidden: int,
        dtype: DType = "float32",
    ) -> None:
        """Raises BackendError when the device has less memory."""
        self._memory, self._rows, self._hidden = memory, rows, hidden
        self._dtype: DType = dtype
        self._row_bytes = hidden * ITEM_BYTES[dtype]
        self._shape = (rows + sent_rows, hidden)
        nbytes = self._shape[0] * self._row_bytes
        self._block: Buffer | None = memory.allocate(nbytes)
        memory.clear(self._block.pointer, nbytes)  # a row that nobody asked for must still be finite
        self._staged = Ring(memory)

    @property
    def rows(self) -> int:
        """See `TokenTable.rows`."""
        return self._rows

    def write(self, row: int, tokens: NDArray[np.generic]) -> None:
        """See `TokenTable.write`."""
        assert 0 <= row <= self._rows - len(tokens), (row, len(tokens))
        assert self._block is not None, "released"
        staged = self._staged.take(len(tokens) * self._row_bytes)
        staged.view(self._dtype).reshape(len(tokens), self._hidden)[...] = tokens
        self._memory.upload(staged, self._block.pointer + row * self._row_bytes)
        self._staged.sent()

    def with_sent(self, sent: DeviceArray | None) -> DeviceArray:
        """Puts the rows that came with a pass in their place, and gives the pass its input."""
        assert self._block is not None, "released"
        if sent is not None:
            assert sent.shape[0] <= self._shape[0] - self._rows, sent.shape
            place = self._block.pointer + self._rows * self._row_bytes
            sides = Side(sent.pointer, sent.nbytes, 1), Side(place, sent.nbytes, 1)
            self._memory.copy(*sides, width=sent.nbytes, height=1, depth=1)
        return DeviceArray(self._block.pointer, self._shape, self._dtype)

    def release(self) -> None:
        """Gives the block back."""
        self._block = None


def token_table(manifest: Manifest, config: EngineConfig, memory: DeviceMemory) -> DeviceTable | None:
    """Allocates a table of `config.device_tokens_bytes`; None if that is 0, or the ranker takes no embedding tokens.

    Raises InvalidRequest if no item fits, BackendError when the device has less memory.
    """
    if manifest.embedding is None or not config.device_tokens_bytes:
        return None
    hidden, dtype = manifest.shape.hidden_size, embeddings_dtype(manifest)
    rows = config.device_tokens_bytes // (hidden * ITEM_BYTES[dtype])
    if rows < manifest.embedding.tokens:
        raise InvalidRequest(
            f"device_tokens_bytes is {config.device_tokens_bytes}: one item takes "
            f"{manifest.embedding.tokens * hidden * ITEM_BYTES[dtype]}"
        )
    # A pass has as many tokens, but for an item or a prefix that is longer.
    limits = manifest.limits
    sent = max(
        config.max_batch_tokens, config.max_prefill_tokens, limits.max_item_tokens, limits.max_prefix_tokens
    )
    try:
        return DeviceTable(memory, rows, rounded(sent), hidden, dtype)
    except BackendError as error:
        raise BackendError(
            f"the GPU has no {config.device_tokens_bytes / 2**30:.1f} GiB for tokens: lower --device-tokens ({error})"
        ) from error


def embeddings_dtype(manifest: Manifest) -> DType:
    """Tells the type in which a ranker's graphs take embeddings; float32 where they take none."""
    inputs = (tensor for graph in manifest.graphs for tensor in graph.inputs)
    return next((tensor.dtype for tensor in inputs if tensor.name == "embeddings"), "float32")
