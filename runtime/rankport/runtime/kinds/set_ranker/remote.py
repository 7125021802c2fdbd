"""`RemoteSetEngine`: a `SetEngine` in another process."""

from concurrent.futures import Future
from dataclasses import asdict

from rankport.runtime.backends.set_contract import FeatureRows
from rankport.runtime.kinds.remote.remote_engine import RemoteEngine
from rankport.runtime.kinds.set_ranker.engine import SetInput, SetLogits
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.futures import converted

_INPUTS = ("identity", "times", "sessions", "weights")


class RemoteSetEngine(RemoteEngine):
    """Sends the arrays of a request, and reads logits."""

    def submit(
        self, given: SetInput, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[SetLogits]":
        """Queues a request as `SetEngine.submit`; the future raises what that does too."""
        arrays = {name: getattr(given, name) for name in _INPUTS}
        for side, features in (("events", given.events), ("candidates", given.candidates)):
            arrays |= {f"{side}.values": features.values, f"{side}.places": features.places}
        rows = len(given.events) + len(given.candidates)
        return converted(self._submit(arrays, rows, timeout_s, spent_s, now=given.now), logits_of)

    def cache_stats(self) -> CacheStats:
        """Returns the counters of states that the engine told last."""
        state = self._connection.state
        return CacheStats(*[0] * 8) if state is None or state.cache is None else state.cache


def read_input(request: Columns) -> SetInput:
    """Reads a request."""
    arrays = request.arrays
    events, candidates = (
        FeatureRows(arrays[f"{side}.values"], arrays[f"{side}.places"]) for side in ("events", "candidates")
    )
    others = {name: arrays[name] for name in _INPUTS}
    return SetInput(events=events, candidates=candidates, now=request.values["now"], **others)


def logits_columns(answer: SetLogits) -> Columns:
    """Writes an answer."""
    values = asdict(answer)
    arrays = {name: values.pop(name) for name in ("logits", "again")}
    return Columns(values, {name: array for name, array in arrays.items() if array is not None})


def logits_of(columns: Columns) -> SetLogits:
    """Reads an answer."""
    arrays = columns.arrays
    return SetLogits(logits=arrays["logits"], again=arrays.get("again"), **columns.values)
