"""`Scoring`: way of a score query to a model, the same for every front. Owns the order of what is done on the way."""

from concurrent.futures import Executor, Future

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ScoreResult
from rankport.protos.wire import ScoreQuery
from rankport.runtime.kinds.kind import ScoringModel
from rankport.runtime.server.missing import MissingItems
from rankport.runtime.server.models import Served, ServedModels, submit_score, tokens_of


class Scoring:
    """Submits queries to models. Any thread may call it."""

    def __init__(self, models: ServedModels, executor: Executor) -> None:
        """`executor` goes on with what waited for an encoder."""
        self._missing = MissingItems(models.encoder_of, executor)

    def submit(
        self, served: Served[ScoringModel], query: ScoreQuery, timeout_s: float | None
    ) -> "Future[ScoreResult]":
        """Submits a query. Raises as the model's `submit`, and as `MissingItems.submit`."""
        if query.on_missing != "encode":
            return submit_score(served, query, timeout_s)
        tokens = tokens_of(served)
        if tokens is None:
            raise InvalidRequest(
                f"on_missing is 'encode', and {served.description.name!r} reads no token store: give 'skip' or 'fail'"
            )
        return self._missing.submit(
            tokens, query, timeout_s, lambda filled, left_s: submit_score(served, filled, left_s)
        )
