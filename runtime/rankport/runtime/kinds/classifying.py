"""`Classifier`: a loaded bundle of any kind that classifies. Owns the choice of the kind, and no maths."""

import os
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Self, cast

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.errors import InvalidRequest
from rankport.protos.processes.own_process import StaysInProcess
from rankport.protos.types import ModelDescription, Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability, ClassifyingModel, Model
from rankport.runtime.kinds.kind import other_use
from rankport.runtime.kinds.table import kind_of, open_bundle
from rankport.runtime.scheduling.futures import result_within


class Classifier(StaysInProcess):
    """A loaded bundle that classifies, whatever its kind. Any thread may call it; a context manager.

    >>> with Classifier.load("intents.bundle") as classifier:
    ...     classifier.classify(["play some jazz", "will it rain"]).best
    """

    def __init__(self, model: ClassifyingModel) -> None:
        """Takes over a model."""
        self._model = model

    @classmethod
    def load(cls, bundle: str | os.PathLike[str] | Bundle, *, config: EngineConfig = DEFAULTS) -> Self:
        """Loads a bundle by its kind: a classifier, or a ranker with a head of classes, whose prefixes are shared.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it does not classify; the message says what it does.
            RankportError: as the `load` of its kind.
        """
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        with ExitStack() as owned:
            model = kind_of(opened).load(opened, config, None)
            owned.callback(model.close)
            _require_classes(opened, model)
            owned.pop_all()
            return cls(cast(ClassifyingModel, model))

    @property
    def model(self) -> ClassifyingModel:
        """The model of its kind: a `Ranker`, say."""
        return self._model

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities of the model."""
        return self._model.capabilities

    def classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> ClassifyResult:
        """Tells the labels of texts, in their order; no texts give an empty result.

        Args:
            texts: texts or token ids; of a bundle that reads two texts together, pairs of them, (first, second).
            prefix: or the first text of all pairs, `texts` being the second ones. A ranker computes it once.
            timeout_s: seconds after which it gives up; None waits for ever.
            truncation: what happens to a text, or pair, that is too long.

        Raises:
            InvalidRequest: a text is malformed (the message has its index), or there are pairs where the bundle reads
                single texts, or the reverse.
            LimitExceeded: a text is too long and `truncation` is "error".
            Overloaded: the queue is full.
            DeadlineExceeded: `timeout_s` seconds passed.
            BackendError: a pass over these texts failed.
            Unavailable: the model is closed.
        """
        timeout_s = checked_timeout_s(timeout_s)
        return result_within(self.submit_classify(texts, prefix, timeout_s, truncation=truncation), timeout_s)

    def submit_classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[ClassifyResult]":
        """Classifies as `classify`, at once with a future. Cancelling it drops what is not computed yet."""
        return self._model.submit_classify(texts, prefix, timeout_s, truncation=truncation)

    def describe(self) -> ModelDescription:
        """Says what the bundle is."""
        return self._model.describe()

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug: it answers nothing any more."""
        return self._model.alive

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees everything."""
        self._model.close(grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_classes(bundle: Bundle, model: Model) -> None:
    if "classifies" not in model.capabilities:
        raise InvalidRequest(f"{other_use(bundle, model, 'classifies nothing')}, or give another")
