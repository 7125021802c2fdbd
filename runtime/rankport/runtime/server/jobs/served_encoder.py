"""`ServedEncoder`: an encoder that a server serves, as the encode job takes it: in the background, batch by batch."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import NotFound, Overloaded, Unavailable
from rankport.protos.priorities import priority
from rankport.protos.types import ModelDescription, Side, Truncation
from rankport.runtime.bundle.fingerprint import side_fingerprint
from rankport.runtime.kinds.capabilities import EncodingModel
from rankport.runtime.server.models.models import ServedModels
from rankport.runtime.server.submitter import Submitter

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 2.0


class ServedEncoder:
    """Encodes with the version that a name found when the job began, as long as that is served.

    Its calls are for a thread that is not the server's loop. Between two batches the version may be unloaded, which
    ends the job; a batch that is under way keeps it.
    """

    def __init__(
        self,
        models: ServedModels,
        submitter: Submitter,
        loop: asyncio.AbstractEventLoop,
        stopping: threading.Event,
        description: ModelDescription,
        side: Side | None,
        waiting: Callable[[], None],
    ) -> None:
        """`waiting` is called between two tries of a batch; what it raises ends the job."""
        self._waiting = waiting
        self._models, self._submitter, self._loop, self._stopping = models, submitter, loop, stopping
        self._description, self._side = description, side

    @property
    def fingerprint(self) -> str:
        """Fingerprint of what makes the tokens."""
        return side_fingerprint(self._description.fingerprint, self._side or "item")

    def describe(self) -> ModelDescription:
        """Gives the shape and type of the tokens."""
        return self._description

    def encode(self, texts: Sequence[str], /, *, truncation: Truncation) -> NDArray[np.floating]:
        """Computes the tokens of the texts, [texts, k, hidden], waiting out an overload.

        Raises:
            NotFound: the version is served no more.
            Unavailable: the server stops.
            RankportError: as the model.
            Exception: what `waiting` raises.
        """
        delay_s = _FIRST_DELAY_S
        while True:
            batch = asyncio.run_coroutine_threadsafe(self._encoded(texts, truncation), self._loop)
            try:
                return batch.result()
            except Overloaded:
                self._waiting()
                if self._stopping.wait(delay_s):
                    raise Unavailable("the server stops") from None
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
            except CancelledError:
                raise Unavailable("the server stops") from None

    async def _encoded(self, texts: Sequence[str], truncation: Truncation) -> NDArray[np.floating]:
        served = self._models.encoder_of(self._description.fingerprint)
        if served is None:
            raise NotFound(
                f"encoder {self._description.name!r} ({self._description.fingerprint}) is served no more: load it "
                "and create the job again, which goes on behind what is stored"
            )
        with served:
            submit = partial(_in_background, served.model, texts, truncation, self._side)
            return await self._submitter.run(submit, None)


def _in_background(
    model: EncodingModel,
    texts: Sequence[str],
    truncation: Truncation,
    side: Side | None,
    left_s: float | None,
) -> "Future[NDArray[np.floating]]":
    with priority("background"):
        return model.submit_texts(texts, left_s, truncation=truncation, side=side)
