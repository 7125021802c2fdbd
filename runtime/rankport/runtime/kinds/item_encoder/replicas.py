"""Engines of an item encoder on several devices as one: a request goes to the idlest."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.item_encoder.engine import Encoded, EncodeEngine
from rankport.runtime.kinds.replicas import Replicas


class EncodingReplicas:
    """Several `EncodeEngine`s as one. Thread-safe; owns and closes them."""

    def __init__(self, engines: Mapping[int, EncodeEngine]) -> None:
        """Takes engines by the number of the GPU."""
        self._replicas = Replicas(engines, slack_tokens=0)

    def submit(
        self, runs: Sequence[NDArray[np.int64]], timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[Encoded]":
        """See `EncodeEngine.submit`."""
        return self._replicas.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=spent_s), sum(run.size for run in runs)
        )

    @property
    def alive(self) -> bool:
        """False once all have stopped."""
        return self._replicas.alive

    def close(self, grace_s: float = 0.0) -> None:
        """See `EncodeEngine.close`."""
        self._replicas.close(grace_s)
